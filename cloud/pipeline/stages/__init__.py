"""The stages of a retrain, a module each; `cloud.pipeline.running` knows their order."""
