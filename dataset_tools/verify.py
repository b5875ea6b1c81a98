"""Whether a folder of shards is what was written: python -m dataset_tools.verify RECORDS

Reads every record of every shard once: checksums of files, records and pictures, each picture decoded, counts, labels, ids
and rows against dataset.json and examples.csv, copies of a picture in two folds. What is wrong is told on stdout, a line for
each kind of fault with how often and the first examples. Exit code 0: nothing is; 2: something is, or the folder is none of
create_tfrecords.py's; 3: it could not be read to the end (a storage that is gone, a worker that died).
"""

import os

from absl import flags

from pipeline import command, flag_help
from pipeline.errors import UserError

FLAGS = flags.FLAGS
flags.DEFINE_integer("workers", None, "Processes [all cores].", 1)
flag_help.usual("workers")


def main(*arguments: str) -> None:
    if len(arguments) != 1:
        raise UserError("one folder is wanted: python -m dataset_tools.verify RECORDS (--help tells more)")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # pictures are decoded on the CPU
    os.environ.setdefault("TPU_LOAD_LIBRARY", "0")
    from dataset_tools import verified_folder  # late: TensorFlow takes seconds, and --help should not

    directory, = arguments
    whole, faults, remarks = verified_folder.verify(directory, FLAGS.workers or len(os.sched_getaffinity(0)))
    for line in (*faults.lines(), *(f"remark: {one}" for one in remarks)):
        print(line)
    if faults:
        kinds = len(faults.kinds)
        raise UserError(f"{directory}: {len(faults):,} faults of {kinds} kind{'s' * (kinds != 1)}, see above; what "
                        "is damaged is written again by create_tfrecords.py once its file is deleted")
    print(f"{sum(one.examples for one in whole.shards):,} examples in {len(whole.shards)} "
          f"shard{'s' * (len(whole.shards) != 1)} of {directory}: all as they were written")


if __name__ == "__main__":
    command.run(main, takes_arguments=True)
