"""Three pages to play with in a browser: regimes, mean field, quadratic networks. `lossflow explore` serves them.

Each page is a module of functions from what the sliders say to pictures; `app` lays them out, `server` starts it.
"""
