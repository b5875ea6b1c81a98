"""The flags of multi_stage_train.py. Those in STAGE_FLAGS may also stand inside a --stage line."""

from absl import flags

from pipeline.devices import strategy_flags
from pipeline.flag_help import heading
from pipeline.flag_types import define_float, define_on_off, define_path
from pipeline.models.top import MEAN, POOLS, ArcFace
from pipeline.runs.record import PRECISIONS
from pipeline.runs.stages import STAGE_FLAGS

INPUT_SCALINGS = ("01", "caffe", "raw", "tf", "tf128", "torch")
CROP_LAWS = ("area", "height")
KEEPS = ("best", "last")
AUGMENTATIONS = ("inception", "crop", "rot45", "rot45:nearest", "simple", "imet", "mask", "eval")
HEAD_INITS = ("glorot", "kaiming")
OPTIMIZERS = ("sgd", "adam", "adamw", "lamb")
MIXUP_DRAWS = ("batch", "picture")
ENGINES = ("fast", "reference")
AUGMENT_ONS = ("host", "device")
CLASS_BALANCES = ("none", "sqrt", "full")
CACHES = ("none", "memory")
ON_NAN = ("stop", "rollback")


def define() -> None:
    """Defines every training flag on absl's FLAGS."""
    heading("Data and model")
    _define_data_and_model()
    heading("Pictures")
    _define_pictures()
    heading("Loss and optimizer")
    _define_optimization()
    heading("The run")
    _define_run()


def _define_data_and_model() -> None:
    define_path("data_dir", "Folder of shards, as create_tfrecords.py makes it (local or gs://).")
    flags.DEFINE_string("train_split", "train", "Split to train on; several joined by + (train+val).")
    flags.DEFINE_string("fold", None, "Fold to hold out and validate on: 0, 0:2 (one after the other) or all; several "
                        "run in a process each. Default: train on all of the split, validate on val.")
    define_float("hold_out_classes", 0.0, "With --fold, where some classes may only be answered as unknown (turtle_recall): "
                 "each fold leaves so great a share of these out of its training, whole, so that evaluate.py can tell how "
                 "strangers are answered, and --open_set=fit can choose a rule. Where they are fewer than 10, known ones "
                 "take turns too. 0: none.", high=0.5)
    define_path("epochs_from", "MODEL_DIR of an earlier run with the same stages: each stage trains for the number of "
                "epochs that was best there (the median over its folds). For the last run, on train+val.")
    flags.DEFINE_integer("num_classes", None, "Number of classes; must agree with dataset.json.")
    flags.DEFINE_string("model", None, "library/variant, e.g. keras/efficientnet-b3 or kecam/EfficientNetV2L.")
    flags.DEFINE_string("weights", "none", "Initial weights: none, a name of the model's library (imagenet, …), "
                        "or an .h5 file.")
    define_path("init_from", "MODEL_DIR of an earlier run of one's own to start from, "
                      "instead of --weights.")
    define_on_off("allow_seen", False, "Start from --init_from though it was trained on pictures that are held out here; "
                  "scores on them are then too good.")
    define_path("model_dir", "Where checkpoints, history and run.json go (local or gs://).")
    flags.DEFINE_multi_string(
        "stage", [], "One training stage: name=all,epochs=20,size=300,lr=0.1,train=all. Repeated, in order; one of the "
        "same name replaces the earlier. epochs may be a part of one. train is head, all, last:18 (the last 18 layers of "
        "the base) or from:LAYER; lr a rate, or one for each of --groups. "
        f"These flags may stand in it too: {', '.join(STAGE_FLAGS)}. name=probe,size=224,train=probe needs no more: the features "
        "of the training pictures are computed once (by the views of --tta), and logistic regression on them gives the head; of "
        "these flags it takes batch_size, eval_resize and antialias, and the others mean nothing to it.")
    define_on_off("place_input", False, "Feed latitude and longitude to the classifier beside the picture.")
    define_float("place_drop", 0.5, "With --place_input: share of the training pictures whose place is not told.", high=1.0)
    define_on_off("freeze_place", False, "With --place_input: leave what reads the place as it is; for a --stage.")
    flags.DEFINE_enum("input_scaling", None, INPUT_SCALINGS, "What the network gets of pixels 0-255: as they are (raw), / "
                      "255 (01), from -1 to 1 (tf, or tf128: / 128 - 1), less ImageNet's mean over its deviation (torch), "
                      "or BGR less its mean (caffe). Default: what the weights were trained with.")
    define_float("dropout", 0.0, "Share of the pooled features that each training step drops before the head.", high=0.99)
    define_float("channel_dropout", 0.0, "Share of the last feature map's channels that each training step drops whole.",
                 high=0.99)
    flags.DEFINE_enum("head_init", "glorot", HEAD_INITS, "Initial weights of the head: glorot (uniform), or kaiming (normal, "
                      "variance 2 over the number of features).")
    flags.DEFINE_enum("pool", MEAN, POOLS, "What becomes of the last feature map: its mean over all places, or gem: the "
                      "generalized mean (mean of x^p)^(1/p), with one p that is learned, at first 3. Of all stages.")
    flags.DEFINE_integer("embedding_dim", ArcFace.embedding_dim, "With --loss=arcface: units of the embedding before "
                         "the head.", 1)
    define_float("arcface_scale", ArcFace.scale, "With --loss=arcface: what cosines are multiplied by to be logits, in "
                 "all stages.", low=1e-3)
    flags.DEFINE_integer("arcface_subcentres", ArcFace.subcentres, "With --loss=arcface: centres of each class, of which "
                         "the nearest counts.", 1)


def _define_pictures() -> None:
    flags.DEFINE_enum("augment", "inception", AUGMENTATIONS, "inception: random crop and mirror; crop: a square of "
                      "the size anywhere in the picture of --eval_resize=short:N, and mirror; simple: inception and "
                      "colour and rotation; rot45: half of the whole pictures flipped or turned by a multiple of 45 "
                      "degrees (rot45:nearest: by the nearest pixel, as the fifth place of Turtle Recall did); imet: "
                      "mirror, a little light, shift, turn and noise, then a crop of at most twice the size, or of at most "
                      "N px with --eval_resize=crop:N; mask: a square around a point of the picture's mask (localize.py "
                      "--masks makes them, beside the boxes of --boxes), and mirror; eval: the evaluation's preprocessing "
                      "(FixRes).")
    define_float("min_crop", 0.08, "The least share of the picture's area that a random crop of --augment=inception or simple "
                 "takes.", low=1e-3, high=1.0)
    flags.DEFINE_enum("crop_law", "area", CROP_LAWS, "How such a crop is drawn: its area uniform (area), or its height, as "
                      "TensorFlow's sample_distorted_bounding_box does with min_object_covered=--min_crop and the whole "
                      "picture as the object (height): smaller on average.")
    define_on_off("antialias", True, "Antialias where pictures are resized, in training, validation and prediction.")
    flags.DEFINE_enum("resize_engine", "fast", ENGINES, "How antialiased random crops are resized in training: fast (within a "
                      "few levels; large ones are decoded at 1/2, 1/4 or 1/8) or reference (exactly, as validation and "
                      "prediction do, at twice the decoding's cost).")
    flags.DEFINE_string("randaugment", "", "N:M: N random operations a picture at magnitude M; after it may stand same (one "
                        "draw for all layers: one operation, N times over, with one sign) and tf_contrast (the TensorFlow "
                        "reference's, which takes the pixels' number / 256 for their mean), as in 6:4:same:tf_contrast. Not "
                        "with augment=eval.")
    flags.DEFINE_enum("randaugment_engine", "fast", ENGINES, "fast: a picture's moves become one, for a third of the cost; "
                      "reference: one operation after another (docs/performance.md tells what differs).")
    define_float("mixup", 0.0, "Mix each picture of a batch with another, their shares from Beta(ALPHA, ALPHA); 0: don't.")
    flags.DEFINE_enum("mixup_draw", "batch", MIXUP_DRAWS, "Of --mixup. batch: one share for all pictures, each mixed with "
                      "the one before; picture: a share for each, which keeps the larger part itself, and a random partner. "
                      "Not with --cutmix.")
    define_float("cutmix", 0.0, "Paste a box of another picture into each, its area from Beta(ALPHA, ALPHA); 0: don't. With "
                 "--mixup too, one of the two is drawn for each batch.")
    define_float("random_erasing", 0.0, "Share of the pictures in which a rectangle becomes noise. Not with augment=eval.",
                 high=1.0)
    define_float("jitter", 0.0, "Multiply brightness, contrast and saturation, in random order, each by a factor from 1 - "
                 "AMOUNT to 1 + AMOUNT. Not with augment=eval.", high=1.0)
    define_float("pca_noise", 0.0, "Add a colour drawn along ImageNet's principal axes, of this standard deviation (0.1 is "
                 "AlexNet's). Not with augment=eval.")
    flags.DEFINE_string("eval_resize", "squash", "squash: the whole picture to the size; short:360: its short side to "
                        "360 px (short:360:cubic: bicubic, else bilinear), then the centre; crop:640: a random part of at "
                        "most 640 px a side, the same at each call, to the size.")
    define_float("rotate", 0.0, "Turn the picture by up to so many degrees, either way, before it is cropped (bilinear; black "
                 "comes into view). With augment=crop, inception and simple.", high=180.0)
    define_float("grid_mask", 0.0, "Black out each of 7 x 7 cells of the finished picture with this probability. Not with "
                 "augment=eval.", high=1.0)
    flags.DEFINE_enum("augment_on", "host", AUGMENT_ONS, "Where pictures are changed after the crop and its mirror image (by "
                      "--jitter, --pca_noise, --randaugment, --random_erasing, --grid_mask, --mixup and --cutmix): by the host, or "
                      "by the device, within the step. Moves are then bilinear, not nearest, and a picture is mixed with "
                      "one of its replica's part of the batch. Not with randaugment_engine=reference.")
    flags.DEFINE_string("pixel_mean", None, "115.75:120.83:93.49: what is taken off red, green and blue (0 to 255), of one's "
                        "own data; with --pixel_std. Default: those that belong to the weights.")
    flags.DEFINE_string("pixel_std", None, "50.46:50.08:49.67: what they are then divided by.")
    flags.DEFINE_string("boxes", None, "Crop every picture to its box of that name, as localize.py wrote them beside the "
                        "shards; predict.py then does the same.")
    flags.DEFINE_string("tta", "none", "Views that predict.py averages unless told otherwise (kept in run.json).")
    flags.DEFINE_string("oof_tta", None, "Views of a fold's predictions of what it held out, which blend weights and "
                        "thresholds are fitted on. Default: those of --tta.")


def _define_optimization() -> None:
    flags.DEFINE_string("loss", None, "softmax: one label a picture; or arcface (softmax of scaled cosines between an "
                        "embedding and the classes' centres, with a margin; of all stages). Several: sigmoid, or focal (the "
                        "same with more weight on what is hard). Default: the task's, softmax or sigmoid.")
    define_float("focal_alpha", 0.5, "Of focal: the weight of labels; that of what is none is 1 - alpha.", high=1.0)
    define_float("focal_gamma", 0.25, "Of focal: how much less what is easy weighs; 0: as much.")
    define_float("arcface_margin", 0.5, "Of arcface: what training adds to the angle between a picture and its class, in "
                 "radians.", high=1.5)
    define_float("label_smoothing", 0.0, "Share of the target spread over all classes (of sigmoid and focal: over yes and "
                 "no of each label).", high=1.0)
    define_float("logit_adjust", 0.0, "In the training loss, add so many times log(class's share of the training pictures) "
                 "to the logits; 0: don't. --prior_correction then divides by what is left of the prior.")
    flags.DEFINE_enum("class_balance", "none", CLASS_BALANCES, "How often an epoch shows a class of n pictures: as n "
                      "(none), as its square root (sqrt), or all equally (full).")
    flags.DEFINE_enum("optimizer", "sgd", OPTIMIZERS, "Optimizer.")
    define_float("momentum", 0.9, "Momentum of sgd.", high=1.0)
    define_on_off("nesterov", False, "Nesterov's momentum, of sgd, as PyTorch has it.")
    define_float("weight_decay", 0.0, "Decoupled weight decay, a share of the rate; biases and norms are spared.")
    define_float("l2", 0.0, "Add so many times each weight to its gradient (PyTorch's weight_decay of sgd and adam); biases and "
                 "norms are spared.")
    define_on_off("decay_all", False, "--weight_decay and --l2 take biases and norms too.")
    define_float("clip_norm", 0.0, "Clip the gradients' global norm to this; 0: don't.")
    flags.DEFINE_string("lr_schedule", "cosine", "Learning rate after the warm-up: cosine (to 0), cosine:whole (as long as the "
                        "whole stage but begun after the warm-up, so cut off above 0), constant, or step:10:20, multiplied by "
                        "--lr_factor after 10 and after 20 epochs. Without a warm-up: triangular:4, up from a hundredth over "
                        "the first quarter of the stage, then down to it again; triangular:epochs, up to the middle epoch, "
                        "then down, constant within each; plateau:0.5:4, halved after 4 validations without a better "
                        "--monitor.")
    define_float("lr_factor", 0.1, "What --lr_schedule=step multiplies the rate by.", high=1.0)
    define_float("warmup_epochs", 0.0, "Epochs (or a part of one) over which the rate rises linearly.")
    define_on_off("scale_lr", False, "Multiply the rate by batch_size/lr_batch.")
    flags.DEFINE_integer("lr_batch", 256, "With --scale_lr: the batch that a stage's lr is meant for.", 1)
    flags.DEFINE_string("groups", "", "LAYER:LAYER: the first layer of the second and third layer group (any number; "
                        "`head` begins a group of the head alone). A stage's lr may then have a rate each: "
                        "lr=1e-5:8e-5:5e-4, the last one the head's. One at 0 is frozen, and its BatchNorm's statistics move.")
    define_float("layer_decay", 1.0, "Multiply the rate by this for each block further from the head; 1: don't.",
                 high=1.0)
    define_float("ema", 0.0, "Exponential moving average of the weights: what is kept at each step, e.g. 0.9999. The "
                 "averaged weights are validated, saved as the best and predicted with. 0: don't.", high=1.0)
    flags.DEFINE_integer("accumulate", 1, "Work a step's batch off in so many micro-batches, for less memory; the step is "
                         "the same, but BatchNorm sees a micro-batch at a time.", 1)
    define_on_off("sync_batch_norm", False, "In training, take BatchNorm's statistics over the batch of all replicas, not "
                  "over each one's own.")


def _define_run() -> None:
    flags.DEFINE_integer("batch_size", 32, "Pictures a step, over all replicas.", 1)
    flags.DEFINE_enum("precision", "float32", PRECISIONS, "Arithmetic of the base; head and loss are float32 always.")
    define_on_off("jit", False, "Compile the training step with XLA.")
    flags.DEFINE_integer("steps_per_execution", 1, "Steps in one call from Python.", 1)
    strategy_flags.define()
    flags.DEFINE_string("monitor", None, "What the best checkpoint is chosen by, and what plateau and early_stop watch: "
                        "val_loss; val_accuracy or val_top5 with one label a picture, val_f2 with several. Default: the "
                        "task's, val_loss or val_f2.")
    flags.DEFINE_enum("keep", "best", KEEPS, "Which checkpoint of a stage the next one starts from, and predict.py takes "
                      "unless told otherwise: best (by --monitor; the last where nothing is held out) or last.")
    flags.DEFINE_integer("early_stop", 0, "End a stage after so many validations without a better --monitor; 0: "
                         "don't.", 0)
    define_float("validate_every", 1.0, "Epochs (or a part of one) from one validation and checkpoint to the next.",
                 low=1e-6)
    flags.DEFINE_integer("min_steps", 0, "A stage whose epochs are fewer steps than this has as many whole epochs as make them up: "
                         "for very few pictures (--epochs_from has its own number). 0: as its epochs are.", 0)
    flags.DEFINE_string("keep_epochs", "", "18:21:24: keep the checkpoints of the last stage after so many epochs, for "
                        "predict.py --checkpoint=18:21:24.")
    define_float("save_minutes", 10.0, "Minutes from one checkpoint to go on from to the next, beside those at each "
                 "validation; 0: no others.")
    define_float("max_minutes", 0.0, "After so many minutes save and end with 75, as SIGTERM has it end: the same command "
                 "goes on. With several folds of all of them together. 0: don't.")
    flags.DEFINE_enum("on_nan", "stop", ON_NAN, "Where the loss is no number any more: stop (3), or rollback: go on from "
                      "the last checkpoint with half the rate, at most three times a stage.")
    flags.DEFINE_boolean("deterministic", False, "TensorFlow's deterministic operations: on a GPU, too, the same bits from "
                         "run to run, more slowly.")
    flags.DEFINE_integer("max_steps", 0, "Cut every stage (and its validation) to this many steps, for trying out; "
                         "0: all.", 0)
    flags.DEFINE_boolean("dry_run", False, "Print the plan (data, devices, and a table of the stages: steps, rates, parameters, "
                         "memory, what would be skipped) and stop. (Records named by "
                         "--training_files are adopted first: their number is a part of the plan.)")
    flags.DEFINE_integer("skip_bad_records", 0, "Pass over so many records at most whose checksum is wrong, in training and "
                         "validation; the shards are then looked through once, before the first step. 0: the first one ends "
                         "the run.", 0)
    flags.DEFINE_boolean("unordered", False, "Let pictures come in any order, for speed; runs then differ.")
    flags.DEFINE_enum("cache", "none", CACHES, "memory: keep the encoded training pictures in memory once they are read, "
                      "where they fit into half of --ram_budget (a line tells where not). For shards on slow or remote "
                      "disks; changes neither order nor pixels.")
    define_float("ram_budget", 0.0, "GiB that the input pipeline may take on each host: --cache, and the buffers that are "
                 "sized as it runs. 0: half of the machine's memory.")
    flags.DEFINE_integer("random_seed", 42, "Seed of initial weights, order and augmentation.", 0,
                         2**32 - 1)  # NumPy takes no more
