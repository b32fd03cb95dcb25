"""From an experiment folder of another RVC tool to a dataset and a checkpoint of this project (specification 14.3)."""
