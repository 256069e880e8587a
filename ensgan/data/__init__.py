"""Real image sets: MedMNIST, phantom, folders."""
