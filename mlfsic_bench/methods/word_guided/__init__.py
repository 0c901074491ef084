"""Word-guided attention, the model of Yan et al. (2022)."""
