"""Compiling, running and submitting the pipeline for Kubeflow Pipelines 2 and Vertex AI."""
