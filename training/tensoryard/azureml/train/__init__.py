"""The modules of `azureml.train`."""
