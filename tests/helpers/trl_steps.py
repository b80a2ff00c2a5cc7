"""Arguments of TRL's trainers for two steps on a CPU that move the weights and are logged."""

from __future__ import annotations

TWO_STEPS = {"max_steps": 2, "learning_rate": 1e-3, "logging_steps": 1, "report_to": [], "use_cpu": True}
