"""A trained run over pictures: probabilities by predict, boxes by localize."""
