"""SkyRL 0.3 with AT²PO's loss and credit: its own entry point, after the plug-in has registered itself.

::

    python examples/skyrl/main_atpo.py trainer.algorithm.policy_loss_type=atpo \
        trainer.algorithm.loss_reduction=sequence_mean \
        trainer.algorithm.eps_clip_low=0.003 trainer.algorithm.eps_clip_high=0.004 \
        trainer.algorithm.advantage_estimator=at2po trainer.algorithm.use_kl_loss=false …
"""

import at2po_agent.integrations.skyrl  # noqa: F401  registers the loss and the estimator


def main() -> None:
    """Run SkyRL with the arguments of the command line."""
    from skyrl.train.entrypoints.main_base import main as train

    train()


if __name__ == "__main__":
    main()
