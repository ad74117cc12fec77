"""Programs that each break one rule: `ssh_open` breaks the rule `ssh-open`; `sound` has the parts that break none."""
