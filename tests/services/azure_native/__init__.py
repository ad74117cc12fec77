"""A stand-in for the azure-native provider and for the Azure behind it: see tests/services/README.md."""
