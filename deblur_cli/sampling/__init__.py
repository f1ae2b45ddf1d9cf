"""The mathematics of the paths from a blurred photo to a sharp one. Pure functions of tensors."""
