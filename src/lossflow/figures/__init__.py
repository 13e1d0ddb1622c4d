"""Published figures and claims, one file each: parameters, what is compared, the picture, a verdict for every curve."""
