"""The scripts of experiments/batch, with stand-ins for the schedulers, which record what they are told, and for the study."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

SCRIPTS = Path(__file__).parents[1] / "experiments" / "batch"
RUNS = ["teacher-seed0", "onehot-seed0", "student-seed0"]

# A study of three runs. It prints what is to do, trains by leaving a file, and analyses likewise.
STUDY = """#!/bin/bash
cd "$(dirname "$0")"
echo "$*" >> told
is_done() { [[ -e done-$1 ]]; }
case "$*" in
*--list*)
    for run in teacher-seed0 onehot-seed0; do is_done $run || echo $run; done
    is_done student-seed0 || { [[ $* == *--ready* ]] && ! is_done teacher-seed0; } || echo student-seed0 ;;
*--only*)
    run="${@: -1}"
    [[ -e fail-$run ]] && exit 1
    [[ -e stop-$run ]] && { rm stop-$run; exit 75; }
    [[ $run == student* ]] && ! is_done teacher-seed0 && exit 2
    touch done-$run ;;
*) touch done-analysis ;;
esac
"""
# A scheduler's program: it records its arguments and what it reads, and answers what $ANSWER_FIRSTWORD says.
STAND_IN = """#!{python}
import json, os, sys
name = os.path.basename(sys.argv[0])
read = "" if sys.stdin is None or sys.stdin.isatty() or name not in ("kubectl",) or "-" not in sys.argv else sys.stdin.read()
with open(os.environ["TOLD"], "a", encoding="utf-8") as told:
    told.write(json.dumps([name, *sys.argv[1:], read]) + "\\n")
{body}
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a study `kd`, and `stand_in(name, body)` that puts a program on the PATH."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "work").mkdir()
    study = tmp_path / "work" / "kd"
    study.write_text(STUDY)
    study.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("TOLD", str(tmp_path / "told"))
    monkeypatch.setenv("HERE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stand_in(place, name, body="pass"):
    program = place / "bin" / name
    program.write_text(STAND_IN.format(python=sys.executable, body=body))
    program.chmod(0o755)


def told(place):
    path = place / "told"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def script(name, *words, **environment):
    return subprocess.run(
        [str(SCRIPTS / name), *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
    )


def kd(place):
    return str(place / "work" / "kd")


def finished(place):
    return {path.name.removeprefix("done-") for path in (place / "work").glob("done-*")}


def test_every_script_is_clean_to_shellcheck():
    checker = shutil.which("shellcheck") or pytest.skip("shellcheck is not installed")
    found = subprocess.run([checker, *sorted(map(str, SCRIPTS.glob("*.sh")))], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "")


def test_xargs_trains_teachers_then_students_then_analyses(place):
    done = script("xargs.sh", 2, kd(place), "--seeds=1")
    assert done.returncode == 0, done.stderr
    assert finished(place) == {*RUNS, "analysis"}


def test_xargs_goes_on_where_a_run_fails_and_analyses_nothing(place):
    (place / "work" / "fail-teacher-seed0").touch()
    done = script("xargs.sh", 2, kd(place))
    assert done.returncode == 1
    assert "not finished: teacher-seed0 student-seed0" in done.stderr
    assert finished(place) == {"onehot-seed0"}
    (place / "work" / "fail-teacher-seed0").unlink()
    assert script("xargs.sh", 2, kd(place)).returncode == 0
    assert finished(place) == {*RUNS, "analysis"}


def test_what_the_study_refuses_ends_xargs_with_its_status(place):
    (place / "work" / "kd").write_text("#!/bin/bash\nexit 2\n")
    assert script("xargs.sh", 2, kd(place)).returncode == 2


SBATCH = """
import subprocess
number = len(open(os.environ["TOLD"]).readlines())
array = next((word.partition("=")[2] for word in sys.argv if word.startswith("--array=")), "")
first, _, last = array.partition("%")[0].partition("-")
words = sys.argv[next(i for i, word in enumerate(sys.argv) if word.endswith(".sh")):]
for task in range(int(first), int(last) + 1) if array else [0]:
    environment = {**os.environ, "SLURM_JOB_ID": f"{number}"}
    if array:
        environment |= {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_JOB_ID": f"{number}"}
    status = subprocess.run(words, env=environment, stdout=subprocess.DEVNULL).returncode
    if status == 75:
        status = subprocess.run(words, env=environment, stdout=subprocess.DEVNULL).returncode
    if status:
        print(f"task {task} ended with {status}", file=sys.stderr)
print(f"{number};cluster")
"""


def test_slurm_submits_two_arrays_and_the_analysis_each_after_the_former(place):
    stand_in(place, "sbatch", SBATCH)
    stand_in(place, "scontrol")
    (place / "work" / "stop-onehot-seed0").touch()
    done = script("slurm.sh", "--partition=gpu", "--", kd(place), "--seeds=1", BATCH_DIR=str(place / "logs"))
    assert done.returncode == 0, done.stderr
    jobs = [words for words in told(place) if words[0] == "sbatch"]
    asked = [[word for word in words if word.startswith(("--array", "--dependency", "--part"))] for words in jobs]
    assert asked[0] == ["--partition=gpu", "--array=1-2%64"]
    assert asked[1] == ["--dependency=afterany:1", "--partition=gpu", "--array=3-3%64"]
    second = asked[2][0].rpartition(":")[2]
    assert asked[2] == [f"--dependency=afterok:1:{second}", "--partition=gpu"]
    assert {"--nodes=1", "--ntasks=1"} <= set(jobs[2]) - set(jobs[1])
    assert finished(place) == {*RUNS, "analysis"}
    # One was told to stop, and asked SLURM to queue it again, and no other of its array.
    assert [words[1:3] for words in told(place) if words[0] == "scontrol"] == [["requeue", "1_2"]]


def test_slurm_submits_what_is_left(place):
    stand_in(place, "sbatch", SBATCH)
    for run in RUNS[:2]:
        (place / "work" / f"done-{run}").touch()
    assert script("slurm.sh", "--", kd(place), BATCH_DIR=str(place / "logs")).returncode == 0
    arrays = [word for words in told(place) for word in words if word.startswith("--array")]
    assert arrays == ["--array=1-1%64"]


def test_a_slurm_job_passes_sigterm_on_and_queues_again(place):
    stand_in(place, "scontrol")
    kd_file = place / "work" / "kd"
    kd_file.write_text(
        "#!/bin/bash\ntrap 'sleep 0.2; exit 75' TERM\ntouch \"$HERE/began\"\nwhile :; do sleep 0.1; done\n"
    )
    words = [str(SCRIPTS / "slurm_run.sh"), "", str(kd_file)]
    job = subprocess.Popen(words, env={**os.environ, "SLURM_JOB_ID": "7"}, stdout=subprocess.DEVNULL)
    while not (place / "began").exists():
        assert job.poll() is None
    job.terminate()
    assert job.wait(20) == 75
    assert told(place)[-1][:3] == ["scontrol", "requeue", "7"]


@pytest.mark.parametrize("of", ["all", "one run"])
@pytest.mark.parametrize("several", [{"SLURM_NNODES": "2"}, {"SLURM_NNODES": "1", "SLURM_NTASKS": "2"}])
def test_slurm_on_several_nodes_starts_a_process_on_each(place, several, of):
    stand_in(place, "srun")
    (place / "runs").write_text("a\nb\n")
    runs, only = ("", []) if of == "all" else (place / "runs", ["--only", "b"])
    environment = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2", **several}
    assert script("slurm_run.sh", runs, "kd-jax", "run", "digits_kd", **environment).returncode == 0
    (words,) = told(place)
    assert words[:-1] == [
        *("srun", "--kill-on-bad-exit=1", "kd-jax", "run", "digits_kd", *only),
        *("--distributed", "--coordinator_timeout", "600"),
    ]


def test_a_slurm_job_of_several_nodes_passes_sigterm_to_its_processes(place):
    stand_in(place, "scontrol")
    stand_in(place, "scancel", "open(os.environ['HERE'] + '/stop', 'w').close()")
    stand_in(
        place,
        "srun",
        """
import time
open(os.environ["HERE"] + "/began", "w").close()
while not os.path.exists(os.environ["HERE"] + "/stop"):
    time.sleep(0.05)
sys.exit(75)
""",
    )
    environment = {**os.environ, "SLURM_JOB_ID": "7", "SLURM_NNODES": "2"}
    words = [str(SCRIPTS / "slurm_run.sh"), "", "kd-jax"]
    job = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)
    while not (place / "began").exists():
        assert job.poll() is None
    job.terminate()
    assert job.wait(20) == 75
    assert [words[:3] for words in told(place)[1:]] == [
        ["scancel", "--signal=TERM", "7.0"],
        ["scontrol", "requeue", "7"],
    ]


def test_a_tpu_vm_is_asked_for_again_when_it_is_taken_away_until_there_is_a_status(place):
    body = """
words = sys.argv[1:]
if words[:2] == ["storage", "cat"]:
    seen = [line for line in open(os.environ["TOLD"]) if '"cat"' in line]
    sys.exit(1) if len(seen) < 4 else print("0")
if "describe" in words:
    seen = [line for line in open(os.environ["TOLD"]) if '"describe"' in line]
    print("SUSPENDED" if len(seen) == 2 else "ACTIVE")
if "create" in words:
    files = dict(word.split("=") for word in words[-1 - words[::-1].index(
        next(w for w in words if w.startswith("--metadata-from-file")))].partition("=")[2].split(","))
    print(open(files["kd-jax-command"]).read(), file=open(os.environ["HERE"] + "/command", "w"))
"""
    stand_in(place, "gcloud", body)
    command = ["kd-jax", "run", "digits_kd", "--workdir=/bucket/a b"]
    done = script("tpu_vm.sh", "digits", *command, BUCKET="mine", ZONE="us-central1-a", POLL_SECONDS="0")
    assert done.returncode == 0, done.stderr
    assert "digits ended with 0" in done.stdout
    calls = [words[1:] for words in told(place)]
    created = [words for words in calls if "create" in words]
    assert len(created) == 2
    assert {"--spot", "--accelerator-type=v5litepod-8", "--zone=us-central1-a", "--node-id=digits"} <= set(created[0])
    assert sum("delete" in words for words in calls) == 2
    split = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {(place / 'command').read_text().strip()}"], capture_output=True, text=True
    )
    assert split.stdout.splitlines() == command


KUBECTL = """
if "create" in sys.argv:
    names = next(word for word in sys.argv if word.startswith("--from-literal=runs=")).partition("runs=")[2]
    open(os.environ["HERE"] + "/names", "w").write(names)
if read.lstrip().startswith("#"):
    import subprocess, yaml
    job = yaml.safe_load(read)
    names = open(os.environ["HERE"] + "/names").read().splitlines() or [""]
    assert job["spec"]["completions"] == len(names)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    for name in names:
        subprocess.run([*container["args"], *(["--only", name] if name else [])])
"""


def test_kubernetes_starts_an_indexed_job_for_what_can_start_then_for_the_rest_then_the_analysis(place):
    stand_in(place, "kubectl", KUBECTL)
    done = script(
        *("kubernetes.sh", "digits", kd(place), "--temperature=1|2", "--title=a & b", r"--c=\d"),
        **{"IMAGE": "registry/kd:1", "CLAIM": "work", "GPUS": "1"},
    )
    assert done.returncode == 0, done.stderr
    jobs = [yaml.safe_load(words[-1]) for words in told(place) if words[-1].startswith("#")]
    assert [job["metadata"]["name"] for job in jobs] == ["digits-first", "digits-second", "digits-analysis"]
    assert [job["spec"]["completions"] for job in jobs] == [2, 1, 1]
    pod = jobs[0]["spec"]["template"]["spec"]
    assert pod["containers"][0]["args"] == [kd(place), "--temperature=1|2", "--title=a & b", r"--c=\d"]
    assert pod["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": 1}
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "work"
    ignored = jobs[0]["spec"]["podFailurePolicy"]["rules"][1]
    assert (ignored["action"], ignored["onExitCodes"]["values"]) == ("Ignore", [75])
    assert finished(place) == {*RUNS, "analysis"}


@pytest.mark.parametrize(("index", "only"), [(0, ["--only", "teacher-seed0"]), (1, ["--only", "a/b"])])
def test_a_pod_takes_the_run_of_its_index(index, only, tmp_path):
    text = (SCRIPTS / "kubernetes.yaml").read_text()
    (tmp_path / "runs").write_text("teacher-seed0\na/b\n")
    for name in ("JOB", "IMAGE", "CLAIM"):
        text = text.replace(f"{{{{{name}}}}}", "x")
    for name, value in {"COMPLETIONS": "2", "AT_ONCE": "1", "GPUS": "0", "WORDS": '["echo", "kd jax"]'}.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    (container,) = yaml.safe_load(text)["spec"]["template"]["spec"]["containers"]
    words = [word.replace("/runs/runs", str(tmp_path / "runs")) for word in container["command"]]
    words += [*container["args"][:1], "-n", *container["args"][1:]]
    said = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "JOB_COMPLETION_INDEX": str(index)})
    assert said.stdout == " ".join(["kd jax", *only])


def test_a_jobset_tells_each_host_its_number_and_where_they_meet(place):
    stand_in(place, "kubectl")
    command = ["echo", "--workdir=/volume/a b"]
    done = script("jobset.sh", "big", "4", *command, IMAGE="registry/kd:1", CLAIM="work", GPUS="8")
    assert done.returncode == 0, done.stderr
    jobset = yaml.safe_load(told(place)[0][-1])
    assert (jobset["kind"], jobset["metadata"]["name"]) == ("JobSet", "big")
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert (job["completions"], job["parallelism"], job["completionMode"]) == (4, 4, "Indexed")
    (container,) = job["template"]["spec"]["containers"]
    said = subprocess.run(
        [*container["command"], *container["args"]],
        capture_output=True,
        text=True,
        env={**os.environ, "JOB_COMPLETION_INDEX": "3"},
    )
    assert said.stdout.strip() == (
        "--workdir=/volume/a b --distributed --coordinator big-hosts-0-0.big:8476 --num_processes 4 --process_id 3"
        " --coordinator_timeout 600"
    )


def test_sky_runs_each_run_as_a_managed_job_and_waits_for_it(place):
    body = """
import subprocess
environment = dict(word.split("=", 1) for before, word in zip(sys.argv, sys.argv[1:]) if before == "--env")
sys.exit(subprocess.run(["bash", "-c", f"exec {environment['COMMAND']}"]).returncode)
"""
    stand_in(place, "sky", body)
    done = script("xargs.sh", 2, kd(place), "--title=a b", LAUNCH=str(SCRIPTS / "sky_run.sh"))
    assert done.returncode == 0, done.stderr
    assert finished(place) == {*RUNS, "analysis"}
    jobs = [words for words in told(place) if words[0] == "sky"]
    assert {words[words.index("--name") + 1] for words in jobs} == {f"kd-jax-{run}" for run in RUNS}
    assert all(words[1:3] == ["jobs", "launch"] for words in jobs)
    task = yaml.safe_load((SCRIPTS / "sky.yaml").read_text())
    assert set(task["envs"]) == {word.split("=")[0] for word in jobs[0] if "=" in word and word.split("=")[0].isupper()}
    assert "--title=a b" in (place / "work" / "told").read_text()


@pytest.mark.parametrize("name", sorted(path.name for path in SCRIPTS.glob("*.sh")))
def test_a_script_without_what_it_needs_says_how_it_is_called(name, place):
    if name in ("tpu_vm_startup.sh", "sky_run.sh"):
        pytest.skip("schedulers call it")
    done = script(name)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")
