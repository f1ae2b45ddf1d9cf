"""What a photo's file says beside its pixels: EXIF, XMP and Photoshop's blocks, byte for byte. Knows no container."""
