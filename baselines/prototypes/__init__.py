"""Methods that compare an image with prototypes of the labels."""
