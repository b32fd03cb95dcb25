"""Names of sweeps."""

import subprocess
import sys


def test_name_with_the_number_of_the_job_is_explained(tmp_path):
    overrides = ["-m", "+experiment=quickstart", "name=${hydra:job.num}", "trainer.max_epochs=1,2"]
    command = [sys.executable, "-m", "rvc_lightning.train", *overrides]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("Error: ${hydra:…} has no value before the jobs")
