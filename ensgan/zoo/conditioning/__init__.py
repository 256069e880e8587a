"""How the discriminator uses labels: heads and their loss terms."""
