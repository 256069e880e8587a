"""What a GAN is: rows made of parts."""
