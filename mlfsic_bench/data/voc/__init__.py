"""PASCAL VOC 2007 and 2012: annotations and object masks."""
