"""Features: backbones, extraction, the store, and the sources a method asks for maps."""
