"""Runs the program that breaks the rule in `tensoryard:rule`."""

import importlib

import pulumi

importlib.import_module(f"infra.{pulumi.Config('tensoryard').require('rule').replace('-', '_')}")
