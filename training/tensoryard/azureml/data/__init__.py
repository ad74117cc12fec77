"""The modules of `azureml.data`."""
