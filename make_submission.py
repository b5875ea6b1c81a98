"""Writes a competition's CSV: python make_submission.py --data_dir=… --predictions=… --out=submission.csv"""

from typing import Optional, Sequence

from absl import flags

from pipeline import command, flag_help
from pipeline.answers import answer_flags, prior_flags
from pipeline.errors import UserError
from pipeline.flag_types import define_path, define_paths, require

FLAGS = flags.FLAGS


def define_flags() -> None:
    flag_help.heading("Predictions")
    define_path("data_dir", "Folder of shards, as create_tfrecords.py makes it (local or gs://).")
    define_paths("predictions", "Folder of predict.py, or a file of another program (.npz or .npy with ids and class ids, "
                 "see docs/ensembles.md), or a glob; repeated. Several are averaged.")
    flags.DEFINE_string("split", None, "With files of another program: the split of their pictures. Default: the one that "
                        "has all their ids.")
    answer_flags.define()
    define_path("out", "The CSV.")
    flag_help.usual("data_dir", "predictions", "out", "blend", "geo_prior")


def make_submission(data_dir: str, patterns: Sequence[str], out: str, blend_text: str = "equal",
                    open_set: str = "first", priors_request=None, threshold: Optional[float] = None,
                    min_samples: int = 0, split: Optional[str] = None, stranger_share: float = 0.33,
                    calibration: Optional[str] = None) -> None:
    """Answers by the blend of the predictions, with the priors on top.

    Writes a row for every picture of their split, rejected ones included.

    Args:
      priors_request: a priors.Request; None: none.
      threshold: where a picture has several labels, the least probability of an answer; None: thresholds.for_submission.
      min_samples: there, what fewer train pictures have is not answered.
      stranger_share: the share of pictures of strangers that open_set="fit" is for.
      split: of files of another program among the predictions; None: the one that has their ids.
      calibration: calibration.json, whose temperature is put on the blend.
    """
    from dataset_tools import competitions, submission
    from pipeline.answers import by_kind as answers, fusion, open_set_choice, priors, ranking, unlabelled
    from pipeline.answers.asked import Asked
    from pipeline.records import dataset as datasets

    data = datasets.load(data_dir)
    competition = competitions.find(data.manifest.competition).of(data.task.exclusive)
    members = fusion.find(patterns, data=data, split=split)
    request = priors_request or priors.Request()
    mixed = unlabelled.mixture(members, blend_text, data)
    predicted = unlabelled.combine(members, mixed, request, data, calibration)
    rule = open_set_choice.choose(open_set, stranger_share, members, mixed, request, data, calibration)
    possible = ranking.count_answers(data, rule)
    asked = Asked(competition.submission.answers_for(possible), rule, threshold, min_samples)
    ids, rows, common = answers.of(data.task).answer(data, predicted, asked)
    split = predicted.meta["split"]
    shared = data.shared_id(split)
    if shared is not None:
        raise UserError(f"--predictions: {predicted.directory} is of {split}, which share ids, such as {shared}; a submission "
                        "can't tell them apart: predict the splits one by one")
    missing = ranking.missing_ids(data, split, ids)
    if missing:
        raise UserError(f"--predictions: {predicted.directory} lacks {len(missing)} pictures of {split}, such as {missing[0]}")
    answered = set(ids)  # an id that stood twice was set aside once
    rejected = [one for one in dict.fromkeys(data.rejected(split)["id"]) if one not in answered]
    rows += [common] * len(rejected)
    submission.write_submission(out, competition.submission, ids + rejected, rows, possible)
    print(f"{len(ids) + len(rejected)} rows in {out}"
          + (f"; {len(rejected)} of rejected pictures hold the most frequent classes" if rejected else ""))


def main() -> None:
    require("data_dir", "predictions", "out")
    make_submission(FLAGS.data_dir, FLAGS.predictions, FLAGS.out, FLAGS.blend, FLAGS.open_set, prior_flags.request(),
                    FLAGS.threshold, FLAGS.min_samples, FLAGS.split, FLAGS.stranger_share, FLAGS.calibration)


if __name__ == "__main__":
    define_flags()
    command.run(main)
