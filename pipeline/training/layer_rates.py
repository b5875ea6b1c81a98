"""What each layer's learning rate is multiplied by: a rate for each layer group, and decay by the distance from the head.

Groups: Howard & Ruder 2018, "Universal language model fine-tuning for text classification" (discriminative rates).
Decay: Clark et al. 2020, "ELECTRA"; Bao et al. 2022, "BEiT".
"""

import re
from typing import Sequence

import tensorflow as tf

from pipeline.errors import UserError
from pipeline.models.classifier import Classifier, position
from pipeline.runs.stages import Stage

HEAD = "head"  # as a name in --groups: a group of what is not base

# Every library of the zoo begins the names of a block's layers with the block's own: block1a_dwconv,
# conv2_block1_1_conv, stack_0_block0_MB_dw_, block0_attn_qkv, stage1_unit1_conv1.
_BLOCK = re.compile(r"(.*?(?:block|unit)\d+[a-z]?)(?:_|$)")


def factors(classifier: Classifier, stage: Stage) -> list[float]:
    """The factor of each of classifier.model.trainable_variables, in their order; 1 for what is not base (the head)."""
    of_layers = base_factors(classifier.base.layers, stage)
    by_variable = {variable.ref(): factor for layer, factor in zip(classifier.base.layers, of_layers)
                   for variable in layer.variables}
    return [by_variable.get(variable.ref(), 1.0) for variable in classifier.model.trainable_variables]


def stepped(classifier: Classifier, stage: Stage) -> list[tuple[tf.Variable, float]]:
    """The variables that the steps change, each with its factor: all that train but those of groups at rate 0.

    No gradient is computed for what does not move. (Its layers still train: their BatchNorm takes each batch's statistics.)
    """
    return [(variable, factor) for variable, factor in zip(classifier.model.trainable_variables, factors(classifier, stage))
            if factor > 0]


def base_factors(layers: Sequence[tf.keras.layers.Layer], stage: Stage) -> list[float]:
    """The factor of each layer of a base: its group's rate over the head's, times its decay.

    Raises UserError where groups and rates don't agree, a layer doesn't exist, or no layer tells its block.
    """
    of_groups = _group_factors(layers, stage)
    if stage.layer_decay == 1:
        return of_groups
    distances = blocks_from_head(layers, stage.name)
    return [factor * stage.layer_decay**distance for factor, distance in zip(of_groups, distances)]


def _group_factors(layers: Sequence[tf.keras.layers.Layer], stage: Stage) -> list[float]:
    starts = _group_starts(layers, stage)
    if not stage.lower_lrs:
        return [1.0] * len(layers)
    rates = len(stage.lower_lrs) + 1
    if len(starts) + 1 != rates:
        raise UserError(f"stage {stage.name}: lr has {rates} rates, but --groups={stage.groups} makes {len(starts) + 1} "
                        "layer group(s); give one rate, or one for each")
    of_groups = [*(rate / stage.lr for rate in stage.lower_lrs), 1.0]
    return [of_groups[sum(start <= index for start in starts)] for index in range(len(layers))]


def _group_starts(layers: Sequence[tf.keras.layers.Layer], stage: Stage) -> list[int]:
    """The position of the first layer of each group but the first."""
    names = stage.groups.split(":") if stage.groups else []
    starts = [len(layers) if name == HEAD else position(layers, name, f"groups={stage.groups}") for name in names]
    if any(after <= before for before, after in zip([0, *starts], starts)):
        raise UserError(f"stage {stage.name}: --groups={stage.groups}: the layers must stand in the order of the network, "
                        "and none of them may be its first")
    return starts


def blocks_from_head(layers: Sequence[tf.keras.layers.Layer], stage_name: str) -> list[int]:
    """How many blocks each layer of a base lies away from the head.

    Blocks are told by the layers' names. With n blocks the layers before them all (the stem) are n + 1 away, those of
    the first block n, of the last 1; what comes after the last block counts to the head, 0. A layer between blocks
    (DenseNet's transitions) counts to the block before it. So BEiT's own code numbers them.

    Raises UserError where no name tells a block.
    """
    matches = [_BLOCK.match(layer.name) for layer in layers]
    named = [index for index, match in enumerate(matches) if match]
    if not named:
        raise UserError(f"stage {stage_name}: --layer_decay goes by blocks, which the names of this network's layers "
                        f"({layers[1].name}, …) don't tell; use --groups")
    number_of: dict[str, int] = {}  # blocks in the order in which they begin
    current, numbers = 0, []
    for match in matches:
        if match:
            current = number_of.setdefault(match.group(1), len(number_of) + 1)
        numbers.append(current)
    return [len(number_of) + 1 - number if index <= named[-1] else 0 for index, number in enumerate(numbers)]
