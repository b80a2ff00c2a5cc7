"""The agent SDK: policies, trees of turns, the AT²PO method and its rivals, and the training loop."""
