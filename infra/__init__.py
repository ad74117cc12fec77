"""The workspace as a Pulumi program: settings and what they declare, the rules over it, and its review."""
