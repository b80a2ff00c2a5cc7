#!/usr/bin/env bash
# What a run of verl 0.9 adds to have AT²PO's loss and credit; your model, data and rollout settings go after it.
export VERL_USE_EXTERNAL_MODULES=at2po_agent.integrations.verl
exec python -m verl.trainer.main_ppo \
  algorithm.adv_estimator=at2po \
  algorithm.use_kl_in_reward=false \
  actor_rollout_ref.actor.policy_loss.loss_mode=atpo \
  actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-mean \
  actor_rollout_ref.actor.clip_ratio_low=0.003 \
  actor_rollout_ref.actor.clip_ratio_high=0.004 \
  actor_rollout_ref.actor.use_kl_loss=false \
  +ray_kwargs.ray_init.runtime_env.env_vars.VERL_USE_EXTERNAL_MODULES="$VERL_USE_EXTERNAL_MODULES" \
  "$@"
