"""Steps that commands share: compare hosts with the inventory, apply a plan, record its results."""
