"""Results that are kept: sweeps over grids, the folder of their results, and what is compared in it."""
