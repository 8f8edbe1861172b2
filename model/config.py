"""Configuration of the model and of its training."""

from typing import Literal

from pydantic import Field

from contract.config_types import config_dataclass


@config_dataclass
class EncoderConfig:
    """Causal self-attention before the routing.

    Attributes:
      layers: Layers of self-attention.
      heads: Heads of each; must divide ``embedding_dim``.
      hidden_units: Width inside each layer; 0 takes twice ``embedding_dim``.
      dropout: Rate on the output of both parts of each layer, in training only.
    """

    layers: int = Field(default=2, ge=1, le=32)
    heads: int = Field(default=2, ge=1, le=64)
    hidden_units: int = Field(default=0, ge=0, le=65_536)
    dropout: float = Field(default=0.2, ge=0.0, lt=1.0)


@config_dataclass
class RepeatConfig:
    """The repeat path: what a person has had already is scored by how it was had.

    Attributes:
      history_length: The newest behaviours in which it is counted how often and how lately
        somebody has had an item. May be far more than the model forms interests of.
      hidden_units: Width of the ReLU layer of the score.
      horizon: In training it is counted up to a random one of so many places before the target:
        about as many behaviours as a request asks for at once. 1 teaches the very next one only.
      candidates: Behaviours of the person drawn for each training example.
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
        a sequence in one pass; None routes the item embeddings, one window for each
        target, as published.
      repeat: Score items that people have had by how often and how lately they had them, too;
        for logs in which people repeat. None scores them as all others.
      extractor: ``capsule`` (Behaviour-to-Interest routing, MIND),
        ``self_attentive`` (ComiRec-SA) or ``average`` (one vector, YouTube DNN).
      routing: ``b2i`` (per person, as published) or ``shared_logits`` (the
        original listing's fault, for comparison only).
      mapping_init: How the bilinear map S of the capsules starts: ``identity``, so
        that interests start in the space of the items, or ``glorot`` (random).
      routing_cosine_scale: Above 0, routing compares capsules and behaviours by their
        cosine times this, which keeps interests apart; 0 by dot products, as published.
      routing_iterations: r, routing iterations per forward pass.
      routing_init_std: Standard deviation of the initial routing logits, which are drawn, or
        come from learned prototypes with an encoder.
      adaptive_interests: Use ``K'_u = max(1, min(K, log2 |history|))``.
      recency_position: Add an embedding of each behaviour's distance to the end
        and weigh the behaviour by a learned factor of that distance.
      time_gap: Add an embedding of the time between each behaviour and the newest one
        and weigh the behaviour by a learned factor of it.
      time_dropout: Rate at which a person loses these times in training, so that
        requests without times are answered well too.
      dropout: Rate on behaviour embeddings, in training only.
      hidden_units: Widths of the ReLU layers after routing.
      residual: Add the capsules to the output of the ReLU layers.
      normalize: L2-normalise interests and items before the dot product.
      side_features: Pool item side features into the item embedding.
      item_id_dropout: Rate at which an item with side features loses its id in
        training, so that items without train interactions are found by theirs.
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
    """How a training goes on from the last pushed model.

    Attributes:
      steps: Upper bound of steps, in place of ``max_steps``.
      learning_rate: Adam's learning rate, in place of the training's; 0 keeps that.
      full_every: Every n-th training starts from nothing, with ``max_steps``; 1 makes
        all of them do so and only keeps their state.
      mismatch: What a changed network does: ``fail``, or ``start_anew`` for the weights
        whose shape has changed.
    """

    steps: int = Field(default=1_000, ge=1)
    learning_rate: float = Field(default=0.0, ge=0.0)
    full_every: int = Field(default=14, ge=1)
    mismatch: Literal["fail", "start_anew"] = "fail"


@config_dataclass
class TrainingConfig:
    """Loss, optimiser and schedule. Defaults are the ``strong`` preset.

    Attributes:
      attention_power: p of label-aware attention; ``inf`` is the hard choice.
      negative_scores: Which interest a negative is scored by: ``chosen``, the one that the
        target chose, or ``best``, its own best one, as serving ranks.
      temperature: Divides the scores before the softmax.
      negatives: Where negatives come from: ``log_uniform`` (by frequency rank),
        ``uniform``, ``in_batch``, or ``mixed`` (in-batch and log-uniform).
      num_negatives: Sampled negatives shared by a batch.
      hard_negatives: Weighs negatives by their score, so that those near the chosen
        interest count more (REMI); 0 weighs them evenly.
      logq_correction: Subtract each candidate's log expected count.
      targets_per_sequence: 0 makes every position of a sequence a target in each
        epoch; n draws n of them, so that all people weigh the same.
      batch_size: Examples per step: (history, target) pairs, or with ``model.encoder``
        whole sequences, of which every position is such a pair.
      learning_rate: Adam's learning rate.
      plateau_factor: Multiplies the learning rate at a plateau; 1 keeps it.
      plateau_patience: Validation passes without a better Recall@N that make a
        plateau.
      max_steps: Upper bound of training steps.
      max_seconds: Upper bound of training time; 0 is no bound.
      eval_every_steps: Steps between validation passes.
      early_stopping_patience: Validation passes without a better Recall@N
        before training stops; the best weights are kept.
      eval_max_users: People used for one validation pass.
      eval_cutoff: N of the Recall@N that selects the best weights. A pipeline
        takes it from ``evaluation.primary_cutoff``.
      eval_exclude_history: Take the history out of the candidates in validation.
        A pipeline takes it from ``evaluation.exclude_history``.
      checkpoint_every_steps: Steps between resumable checkpoints.
      mixed_precision: Compute in bfloat16 (weights stay float32).
      jit_compile: Compile the step with XLA.
      distribution: ``none``, ``mirrored`` or ``multi_worker_mirrored``.
      seed: Seeds initial weights, sampling and routing.
      warm_start: Go on from the last pushed model instead of from nothing; None always
        starts from nothing.
      try_one_interest: Train a model of one interest as well, and keep that one if several
        are not better on the validation people beyond chance: it needs fewer searches.
        Doubles the time of a training from nothing; a warm start keeps what was chosen.
      train_on_all: Once the gates have blessed the model, repeat its training with the events
        that were kept back to judge it as well, and push what comes out.
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
    """Refuses settings of the network and of its training that exclude each other.

    Raises:
      ValueError: naming both settings, and what to do.
    """
    if training.negative_scores == "best" and training.attention_power != float("inf"):
        raise ValueError(
            "training.negative_scores 'best' leaves no attention to the target, so that "
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
        ("model.extractor", model.extractor, ("capsule",), "it goes before the capsules"),
        ("model.repeat", model.repeat, (None,), "its examples have no candidates of their own"),
        ("model.routing", model.routing, ("b2i",), "it goes before the capsules"),
        ("training.targets_per_sequence", training.targets_per_sequence, (0,), all_positions),
        (
            "training.negatives",
            training.negatives,
            ("log_uniform", "uniform"),
            f"{all_positions}, so that the targets of a batch are too many to be negatives",
        ),
        (
            "training.jit_compile",
            training.jit_compile,
            (False,),
            "its batches are as long as their longest sequence, and XLA needs one size",
        ),
    ):
        if value not in allowed:
            raise ValueError(
                f"model.encoder needs {key} to be {' or '.join(map(str, allowed))}, because "
                f"{reason}; received {value!r}. Change {key} or remove model.encoder."
            )
