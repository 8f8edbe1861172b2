"""Configuration of the model and of its training."""

from typing import Literal

from pydantic import Field

from contract.config_types import config_dataclass


@config_dataclass
class EncoderConfig:
    """Causal self-attention before the routing.

    Attributes:
      layers: Layers of self-attention.
      heads: Attention heads in each layer; must divide ``embedding_dim``.
      hidden_units: Width inside each layer; 0 takes twice ``embedding_dim``.
      dropout: Rate on the output of both parts of each layer, in training only.
    """

    layers: int = Field(default=2, ge=1, le=32)
    heads: int = Field(default=2, ge=1, le=64)
    hidden_units: int = Field(default=0, ge=0, le=65_536)
    dropout: float = Field(default=0.2, ge=0.0, lt=1.0)


@config_dataclass
class RepeatConfig:
    """The repeat path: scores items that a person has already had by how often and when.

    Attributes:
      history_length: Number of newest behaviours in which the repeat path counts how often
        and how recently a person has had an item. It may be far above the number of
        behaviours that the interests are formed from.
      hidden_units: Width of the ReLU layer that computes the score.
      horizon: In training, the history ends at a random one of this many places before the
        target. Set it to about the number of future behaviours that one answer should cover;
        1 trains on the very next behaviour only.
      candidates: Number of the person's behaviours drawn for each training example.
    """

    history_length: int = Field(default=500, ge=2, le=10_000)
    hidden_units: int = Field(default=32, ge=1, le=4096)
    horizon: int = Field(default=50, ge=1, le=10_000)
    candidates: int = Field(default=16, ge=1, le=1024)


@config_dataclass
class ModelConfig:
    """The network. Defaults are the ``strong`` preset.

    Attributes:
      embedding_dim: Size of item embeddings and interest vectors.
      num_interests: K, the largest number of interests per person.
      history_length: T, the newest behaviours that the model reads.
      encoder: Causal self-attention before the capsules, which trains on every position of
        a sequence in one pass. None routes the item embeddings, with one window for each
        target, as published.
      repeat: Score items that people have already had also by how often and how recently
        they had them; for logs in which people return to the same items. None scores these
        items like all others.
      extractor: ``capsule`` (Behaviour-to-Interest routing, MIND),
        ``self_attentive`` (ComiRec-SA) or ``average`` (one vector, YouTube DNN).
      routing: ``b2i`` (per person, as published) or ``shared_logits`` (the known fault
        of widely copied listings, for comparison only).
      mapping_init: Initial value of the bilinear map S of the capsules: ``identity``, so
        that interests start in the space of the items, or ``glorot`` (random).
      routing_cosine_scale: Above 0, routing compares capsules and behaviours by their
        cosine times this factor, which keeps interests apart. 0 uses dot products, as
        published.
      routing_iterations: r, routing iterations per forward pass.
      routing_init_std: Standard deviation of the initial routing logits. These are drawn at
        random or, with an encoder, computed from learned prototypes.
      adaptive_interests: Use ``K'_u = max(1, min(K, log2 |history|))`` interests.
      recency_position: Add an embedding of each behaviour's distance to the newest one
        and weigh the behaviour by a learned factor for that distance. With an encoder,
        only the factor is used.
      time_gap: Add an embedding of the time between each behaviour and the newest one
        and weigh the behaviour by a learned factor for that time. With an encoder, add only
        an embedding of the time since the previous behaviour.
      time_dropout: Rate at which all times of a person are dropped in training, so that
        requests without times are answered well too.
      dropout: Rate on behaviour embeddings, in training only.
      hidden_units: Widths of the ReLU layers after routing.
      residual: Add the capsules to the output of the ReLU layers.
      normalize: L2-normalise interests and items before the dot product.
      side_features: Pool item side features into the item embedding.
      item_id_dropout: Rate at which the id of an item with side features is dropped in
        training, so that items without train interactions can be found by their side
        features.
      profile_features: Feed the person's profile to the ReLU layers.
    """

    embedding_dim: int = Field(default=64, ge=4, le=1024)
    num_interests: int = Field(default=4, ge=1, le=64)
    history_length: int = Field(default=50, ge=1, le=10_000)
    encoder: EncoderConfig | None = None
    repeat: RepeatConfig | None = None
    extractor: Literal["capsule", "self_attentive", "average"] = "capsule"
    routing: Literal["b2i", "shared_logits"] = "b2i"
    mapping_init: Literal["identity", "glorot"] = "identity"
    routing_cosine_scale: float = Field(default=0.0, ge=0.0)
    routing_iterations: int = Field(default=3, ge=1, le=10)
    routing_init_std: float = Field(default=1.0, ge=0.0)
    adaptive_interests: bool = True
    recency_position: bool = True
    time_gap: bool = False
    time_dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    dropout: float = Field(default=0.5, ge=0.0, lt=1.0)
    hidden_units: tuple[int, ...] = (256,)
    residual: bool = True
    normalize: bool = True
    side_features: bool = True
    item_id_dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    profile_features: bool = True


@config_dataclass
class WarmStartConfig:
    """How a training continues from the last pushed model.

    Attributes:
      steps: Largest number of steps of a warm start, instead of ``max_steps``.
      learning_rate: Adam's learning rate in a warm start; 0 uses ``training.learning_rate``.
      full_every: Every n-th training starts from scratch, with ``max_steps``. With 1, all
        trainings do, and each only saves its state.
      mismatch: What to do if the network has changed: ``fail``, or ``start_anew``, which
        initializes the weights whose shape has changed.
    """

    steps: int = Field(default=1_000, ge=1)
    learning_rate: float = Field(default=0.0, ge=0.0)
    full_every: int = Field(default=14, ge=1)
    mismatch: Literal["fail", "start_anew"] = "fail"


@config_dataclass
class TrainingConfig:
    """Loss, optimizer and schedule. Defaults are the ``strong`` preset.

    Attributes:
      attention_power: p of label-aware attention; ``inf`` is the hard choice.
      negative_scores: The interest that scores a negative: ``chosen``, the interest that the
        target chose, or ``best``, the negative's own best interest, as in serving.
      temperature: Divides the scores before the softmax.
      negatives: Where negatives come from: ``log_uniform`` (by frequency rank),
        ``uniform``, ``in_batch``, or ``mixed`` (in-batch and log-uniform).
      num_negatives: Number of sampled negatives, which all examples of a batch share.
      hard_negatives: Above 0, weighs negatives by their score, so that those near the chosen
        interest count more (beta of REMI); 0 weighs them equally.
      logq_correction: Subtract each candidate's log expected count.
      targets_per_sequence: 0 makes every position of a sequence a target in each
        epoch; n draws n positions, so that all sequences have the same weight.
      batch_size: Examples per step: (history, target) pairs or, with ``model.encoder``,
        sequences in which every position is such a pair.
      learning_rate: Adam's learning rate.
      plateau_factor: Factor for the learning rate at a plateau; 1 keeps the rate.
      plateau_patience: Number of validation passes without a better Recall@N that
        count as a plateau.
      max_steps: Largest number of training steps.
      max_seconds: Largest training time in seconds; 0 means no limit.
      eval_every_steps: Steps between validation passes.
      early_stopping_patience: Number of validation passes without a better Recall@N
        before training stops; the best weights are kept.
      eval_max_users: Largest number of people used for one validation pass.
      eval_cutoff: N of the Recall@N that selects the best weights. A pipeline
        takes it from ``evaluation.primary_cutoff``.
      eval_exclude_history: Whether to remove the history from the candidates in
        validation. A pipeline takes it from ``evaluation.exclude_history``.
      checkpoint_every_steps: Steps between resumable checkpoints.
      mixed_precision: Compute in bfloat16 (weights stay float32).
      jit_compile: Compile the step with XLA.
      distribution: ``none``, ``mirrored`` or ``multi_worker_mirrored``.
      seed: Seeds initial weights, sampling and routing.
      warm_start: Continue from the last pushed model; None always trains from scratch.
      try_one_interest: Also train a model with one interest, which needs fewer searches, and
        keep it unless several interests are significantly better on the validation people.
        This doubles the time of a training from scratch; a warm start keeps the earlier
        choice.
      train_on_all: Once the gates have blessed the model, repeat its training on all events,
        including those held out to evaluate it, and push the result.
    """

    attention_power: float = Field(default=float("inf"), ge=0.0)
    negative_scores: Literal["chosen", "best"] = "chosen"
    temperature: float = Field(default=0.07, gt=0.0)
    negatives: Literal["log_uniform", "uniform", "in_batch", "mixed"] = "log_uniform"
    num_negatives: int = Field(default=2048, ge=1)
    hard_negatives: float = Field(default=0.0, ge=0.0)
    logq_correction: bool = True
    targets_per_sequence: int = Field(default=0, ge=0)
    batch_size: int = Field(default=1024, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0.0)
    plateau_factor: float = Field(default=0.3, gt=0.0, le=1.0)
    plateau_patience: int = Field(default=2, ge=1)
    max_steps: int = Field(default=20_000, ge=1)
    max_seconds: int = Field(default=0, ge=0)
    eval_every_steps: int = Field(default=250, ge=1)
    early_stopping_patience: int = Field(default=6, ge=1)
    eval_max_users: int = Field(default=4_000, ge=1)
    eval_cutoff: int = Field(default=50, ge=1)
    eval_exclude_history: bool = True
    checkpoint_every_steps: int = Field(default=500, ge=1)
    mixed_precision: bool = False
    jit_compile: bool = False
    distribution: Literal["none", "mirrored", "multi_worker_mirrored"] = "none"
    seed: int = 1
    warm_start: WarmStartConfig | None = None
    try_one_interest: bool = False
    train_on_all: bool = False


def check_fits(model: ModelConfig, training: TrainingConfig) -> None:
    """Rejects settings of the network and of its training that cannot be combined.

    Raises:
      ValueError: if two settings cannot be combined; the message names both and says what
        to do.
    """
    if training.negative_scores == "best" and training.attention_power != float("inf"):
        raise ValueError(
            "training.negative_scores 'best' uses no attention to the target, so that "
            f"training.attention_power must be inf; received {training.attention_power}."
        )
    if model.encoder is None:
        return
    if model.embedding_dim % model.encoder.heads:
        raise ValueError(
            f"model.encoder.heads must divide model.embedding_dim ({model.embedding_dim}), "
            f"received {model.encoder.heads}."
        )
    all_positions = "it learns from every position of a sequence"
    for key, value, allowed, reason in (
        ("model.extractor", model.extractor, ("capsule",), "it feeds its own capsules"),
        ("model.repeat", model.repeat, (None,), "its batches have no own items to score"),
        ("model.routing", model.routing, ("b2i",), "it feeds its own capsules"),
        ("training.targets_per_sequence", training.targets_per_sequence, (0,), all_positions),
        (
            "training.negatives",
            training.negatives,
            ("log_uniform", "uniform"),
            f"{all_positions}, so that a batch has too many targets to use them as negatives",
        ),
        (
            "training.jit_compile",
            training.jit_compile,
            (False,),
            "the length of a batch is that of its longest sequence, and XLA needs fixed shapes",
        ),
    ):
        if value not in allowed:
            raise ValueError(
                f"model.encoder needs {key} to be {' or '.join(map(str, allowed))}, because "
                f"{reason}; received {value!r}. Change {key} or remove model.encoder."
            )
