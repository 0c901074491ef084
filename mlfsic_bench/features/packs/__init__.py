"""Feature packs: the features of some images in one file, to be shared."""
