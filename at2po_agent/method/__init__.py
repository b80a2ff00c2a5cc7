"""The paper: where a tree grows, what each turn is worth, and the loss that follows.

tree               ``TurnTree``: the turns of one question
expansion          (1) entropy-guided tree expansion, and what every expansion strategy answers
expansion_rivals   where Tree-GRPO and AEPO sample
credit             (2) turn-wise credit assignment, and the leaf credit of the rivals
objective          (3) ATPO's turn-level ratio and clip, and the losses of GRPO, GSPO and AEPO
rows               sums over ragged rows of tokens, and the metrics of an objective
groups             which groups of a step are trained on (DAPO's dynamic sampling)
shaping            changes to the rewards before credit (DAPO's penalty for length)
algorithms         the six algorithms by name; to add one: a frozen dataclass for each new component, and a line here;
                   outside this project: ``expansion: {name: "my_module:MyExpansion"}``, see docs/own_components.md
"""
