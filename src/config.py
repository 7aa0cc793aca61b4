"""The settings of a run."""

from dataclasses import asdict, dataclass

from src.files import whole_number
from src.files.fingerprint import loss_fingerprint
from src.losses import Loss, loss_function


@dataclass(frozen=True)
class TrainConfig:
    """Everything about a run but its data and its network. The defaults were measured: PROGRESS.md.

    epochs          passes over the training set, each with fresh noise
    batch_size      pairs a step
    optimizer       "muon": Muon for the wide convolutions, Adam for the rest. "adam": Adam for all
    lr, adam_lr     learning rates of Muon and of Adam
    decay           steps: the rates are divided by sqrt(1 + step / decay), whatever `epochs` is
    beta2           of Adam. The usual 0.999 diverged in 3 of 6 runs at these rates
    warmup          steps over which the rates rise from 0
    ema_rel_std     width of the power-function EMA relative to the training length (Karras et al. 2024, eq. 5)
    evaluate_every  epochs between evaluations on held-out images; also after 1, 2, 5 and the last
    seed            of the order of the images
    loss            a name of losses.py, or a function (denoised, clean) -> scalar
    schedule        "sqrt", see `decay`; "cosine": half a cosine to 0 over `epochs`
    cooldown        last epochs, over which the rates fall linearly to 0; such a run, or "cosine", cannot be extended
    """

    epochs: int = 100
    batch_size: int = 8
    optimizer: str = "muon"
    lr: float = 1.5e-3
    adam_lr: float = 4e-3
    decay: int = 2000
    beta2: float = 0.95
    warmup: int = 10
    ema_rel_std: float = 0.05
    evaluate_every: int = 10
    seed: int = 0
    loss: str | Loss = "mse"
    schedule: str = "sqrt"
    cooldown: int = 0

    def __post_init__(self):
        for name, value in list(vars(self).items()):  # numbers of numpy become Python's, which files can hold
            object.__setattr__(self, name, value.item() if hasattr(value, "item") else value)
        for name in ("epochs", "batch_size", "decay", "evaluate_every", "warmup", "seed", "cooldown"):
            least = 0 if name in ("warmup", "seed", "cooldown") else 1
            whole_number(name, getattr(self, name), least, self.epochs if name == "cooldown" else None)
        for name, most in dict(lr=1, adam_lr=1, beta2=1, ema_rel_std=0.288).items():  # 0.289: all steps weigh the same
            value, default = getattr(self, name), getattr(TrainConfig, name)
            if not isinstance(value, float | int) or not 0 < value < most:
                raise ValueError(f"{name} must lie in (0, {most}), got {value!r}; try {default}")
        for name, choices in dict(optimizer=("muon", "adam"), schedule=("sqrt", "cosine")).items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {getattr(self, name)!r}; try {choices[0]!r}")
        loss_function(self.loss)

    def evaluates(self, epoch: int) -> bool:
        return epoch in (1, 2, 5, self.epochs) or epoch % self.evaluate_every == 0

    def fingerprint(self) -> dict:
        """What of it decides the weights after an epoch, as plain numbers and strings."""
        settings = asdict(self) | {"loss": loss_fingerprint(self.loss)}
        del settings["evaluate_every"]
        if self.schedule == "sqrt" and not self.cooldown:
            del settings["epochs"]  # see `decay`
        return settings
