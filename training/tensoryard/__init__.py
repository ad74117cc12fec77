"""Train TensorFlow on one machine or many, and keep what it made."""

__version__ = "0.1.0"
