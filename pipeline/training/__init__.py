"""From a run to its checkpoints: the step, losses, optimizers, schedules, callbacks; and the flags that ask for it."""
