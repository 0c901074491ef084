"""What the attention of a method looks at: pictures and the pointing game."""
