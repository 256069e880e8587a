"""Ray: one Tune trial per GAN, tasks for the rest."""
