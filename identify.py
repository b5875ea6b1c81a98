"""Names what pictures show, with TensorFlow and Pillow alone: python identify.py --model=EXPORT PICTURES_OR_FOLDERS…"""

import datetime

from absl import flags

from pipeline import command, flag_help
from pipeline.errors import UserError
from pipeline.flag_types import define_float, define_path, require

FLAGS = flags.FLAGS
flag_help.heading("Which")
define_path("model", "Folder of export.py.")
flags.DEFINE_integer("batch_size", 16, "Pictures at a time.", 1)
flag_help.heading("Where and when")
define_float("latitude", None, "Degrees, of all pictures. Default: what each one's EXIF data tells.", -90.0, 90.0)
define_float("longitude", None, "Degrees, of all pictures.", -180.0, 180.0)
flags.DEFINE_string("date", None, "Day, as in 2021-05-31, of all pictures. Default: what each one's EXIF data tells.")
flags.DEFINE_boolean("ignore_exif", False, "Take no place and no date out of the pictures.")
flag_help.heading("Answers")
flags.DEFINE_string("rank", None, "Answer at this rank of the classes' taxonomy (species, genus, family, …) or the next "
                    "above it that is sure enough; its probability is the sum over its classes.")
define_float("least", 0.8, "The probability at which --rank's answer is sure enough.", high=1.0)
flag_help.heading("What is written")
define_path("json", "Write the answers as JSON to this file; -: to stdout.")
define_path("csv", "Write a row for each picture to this file; -: to stdout.")
define_path("megadetector", "Write the answers in the format of MegaDetector's batch output, which Timelapse reads; -: to "
            "stdout. Put it into the folder that was identified.")
flag_help.usual("model", "latitude", "longitude", "date", "rank", "csv")


def _where():
    """Of all pictures. Raises UserError."""
    from pipeline.export.photographs import Where

    if (FLAGS.latitude is None) != (FLAGS.longitude is None):
        raise UserError("--latitude and --longitude go together; one of them is missing")
    try:
        date = datetime.date.fromisoformat(FLAGS.date) if FLAGS.date else None
    except ValueError:
        raise UserError(f"--date={FLAGS.date} is no day; write it as 2021-05-31") from None
    return Where(FLAGS.latitude, FLAGS.longitude, date)


def _ways():
    """As create_tfrecords.py makes records."""
    from dataset_tools import dates, image_bytes
    from pipeline.export import identify

    return identify.Ways(image_bytes.prepare, dates.fraction_of_year)


def main(*paths: str) -> None:
    require("model")
    if not paths:
        raise UserError("no picture and no folder of pictures is named")
    from pipeline.export import identify  # late: NumPy and Pillow take a moment, and a mistyped flag should not

    identify.run(identify.Request(
        model=FLAGS.model, paths=paths, where=_where(), ignore_exif=FLAGS.ignore_exif, rank=FLAGS.rank, least=FLAGS.least,
        json=FLAGS.json, csv=FLAGS.csv, megadetector=FLAGS.megadetector, batch_size=FLAGS.batch_size), _ways)


if __name__ == "__main__":
    command.run(main, takes_arguments=True)
