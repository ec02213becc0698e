#!/usr/bin/env python3
"""tools/gpu_suite.sh run: everything that a GPU is asked for, most important first.

    tools/gpu_suite.sh run                 # the first command: 295 s, all that matters
    tools/gpu_suite.sh run --rest          # the second: what did not pass or did not fit, training
    tools/gpu_suite.sh run --only tests,profile --out DIR
    tools/gpu_suite.sh run --dry-run       # the same against a fake GPU, in half a minute

Results are in tools/bench/results/<date>-<gpu>.json, or in DIR: written again whenever something is
known, so that they stay if all is cut off. Each stage has to end by a time of its own, and what one
does not use the next ones have. Exit code 0: every stage that ran passed; 1: one did not; 2: nothing
to run on.
"""

import argparse
import datetime
import json
import os
import pathlib
import shlex
import subprocess
import sys
import time

from gpu_machine import (BUNDLE, ROOT, Failure, FakeMachine, Machine, Printer, Runner, Skip,
                         slug_of)
from gpu_stages import Stages

# Seconds of each stage, in order.
FIRST = {"language": 12, "profile": 20, "sweep": 18, "tests": 42, "models": 16, "peers": 55,
         "layers": 32, "ncu": 40, "sanitize": 55}
SECOND = {"training": 115, "more_profiles": 15, "more_sanitize": 60, "compiled": 100, "nsys": 15}
STAGES = {**FIRST, **SECOND}
FIRST_LIMIT, SECOND_LIMIT = 295, 590  # a little less than a lent machine gives a command


def parse_arguments():
    parser = argparse.ArgumentParser(prog="tools/gpu_suite.sh run", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "tools" / "bench" / "results",
                        metavar="DIR", help="for the results and the log")
    parser.add_argument("--rest", action="store_true",
                        help="what the newest results in --out, or in tools/bench/results, lack, "
                             f"then {', '.join(SECOND)}")
    parser.add_argument("--only", metavar="STAGES", help=f"of {','.join(STAGES)}")
    parser.add_argument("--sanitize", metavar="FILTER",
                        help="cases for the sanitizers, as GoogleTest filters")
    parser.add_argument("--limit", type=float, metavar="S",
                        help=f"seconds for all stages together (default: {FIRST_LIMIT}, with "
                             f"--rest {SECOND_LIMIT})")
    parser.add_argument("--dry-run", action="store_true",
                        help="on a fake GPU that is slow and faulty")
    options = parser.parse_args()
    if options.limit is None:
        options.limit = SECOND_LIMIT if options.rest else FIRST_LIMIT
    for stage in (options.only or "").split(","):
        if stage and stage not in STAGES:
            parser.error(f"--only: expected some of {', '.join(STAGES)}, found '{stage}'")
    options.work = ROOT / "out" / "gpu_suite"
    options.out = options.out.resolve()
    return options


def bundle_is_there():
    if not (BUNDLE / "bundle.json").exists():
        print("no bundle in build-gpu/bundle: making one")
        if subprocess.run([ROOT / "tools" / "gpu_suite.sh", "bundle"]).returncode != 0:
            sys.exit("gpu_suite: make the bundle on a development machine (tools/gpu_suite.sh "
                     "bundle) and bring build-gpu/bundle here")


def write(path, report):
    """At once: a reader, or who is cut off, finds the old file or the new one."""
    new = path.with_name(path.name + ".new")
    new.write_text(json.dumps(report, indent=1) + "\n")
    os.replace(new, path)


def newest_report(options, gpu, commit):
    """Results of this commit on such a GPU, or None."""
    found = []
    for folder in {options.out, ROOT / "tools" / "bench" / "results"}:
        for path in folder.glob(f"*-{slug_of(gpu['name'])}.json"):
            report = json.loads(path.read_text())
            if report.get("kind") == "gpu" and report.get("commit") == commit:
                found.append(report)
    return max(found, key=lambda report: report["date"], default=None)


def stages_of(options, earlier):
    if options.only:
        return options.only.split(",")
    if not options.rest:
        return list(FIRST)
    done = {s["name"] for s in (earlier or {"steps": []})["steps"] if s["status"] == "passed"}
    return [stage for stage in STAGES if stage not in done]


def run_stage(stages, name, runner, save):
    """({name, status, note, seconds}, results)."""
    start = time.monotonic()
    known = {"results": None}

    def keep(results):
        known["results"] = results
        save(results)

    stages.save = keep
    step = {"name": name, "status": "passed", "note": ""}
    try:
        if runner.left() <= 0:
            raise Skip("no time left (--limit)")
        known["results"] = getattr(stages, name)()
    except Skip as why:
        step.update(status="skipped", note=str(why))
    except Failure as why:
        step.update(status="failed", note=str(why.args[0]))
        if len(why.args) > 1:
            known["results"] = why.args[1]
    except Exception as error:  # the next stages run all the same
        step.update(status="failed", note=f"{type(error).__name__}: {error}")
    step["seconds"] = round(time.monotonic() - start, 1)
    return step, known["results"]


def main(options):
    begin = time.monotonic()
    machine_type = FakeMachine if options.dry_run else Machine
    gpu = machine_type.describe()
    if gpu is None:
        print("gpu_suite: no GPU: nvidia-smi is missing or finds none; run this on a machine with "
              "an NVIDIA GPU and its driver, or with --dry-run")
        return 2
    if options.dry_run:
        machine = FakeMachine()
    else:
        bundle_is_there()
        machine = Machine()
    options.work.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    options.slug = slug_of(gpu["name"])
    now = datetime.datetime.now(datetime.timezone.utc)
    path = options.out / f"{now:%Y-%m-%d}-{options.slug}.json"
    printer = Printer()
    say = printer.say
    say(f"{machine.version}, commit {machine.facts['commit'][:12]}, nvcc {machine.facts['nvcc']}; "
        f"{gpu['name']}, driver {gpu['driver_version']}")

    earlier = newest_report(options, gpu, machine.facts["commit"]) if options.rest else None
    report = {"kind": "gpu", "date": now.isoformat(timespec="seconds"),
              "commit": machine.facts["commit"],
              "command": shlex.join(["tools/gpu_suite.sh", "run", *sys.argv[1:]]),
              "gpu": gpu, "bundle": machine.facts,
              "steps": list(earlier["steps"]) if earlier else [],
              "results": dict(earlier["results"]) if earlier else {}}
    names = stages_of(options, earlier)
    # Each stage's end: the sum of the seconds so far, less where all is not to take so long.
    share = min(1.0, options.limit / max(1, sum(STAGES[name] for name in names)))
    ran, end = [], begin
    with open(options.out / "log.txt", "a" if options.rest else "w", encoding="utf-8") as log:
        runner = Runner(log)
        stages = Stages(options, machine, runner, printer, dict(report["results"]))
        for name in names:
            end = min(end + share * STAGES[name], begin + options.limit)
            runner.stage_end = end
            say(f"\n=== {name}, until {end - begin:.0f} s")

            def save(results):
                report["results"][name] = results
                write(path, report)

            step, results = run_stage(stages, name, runner, save)
            report["steps"] = [s for s in report["steps"] if s["name"] != name] + [step]
            if results is not None:
                report["results"][name] = results
            write(path, report)  # stays if all is cut off
            ran.append(step)
            if step["note"]:
                say(f"  {step['status']}: {step['note']}")

    printer.begin_summary()
    say(f"\n=== summary after {time.monotonic() - begin:.0f} s")
    for step in ran:
        say(f"  {step['name']:<13} {step['status']:<8} {step['seconds']:>6.1f} s  {step['note']}")
    say(f"written to {path}; every command's output is in {options.out / 'log.txt'}")
    return 1 if any(step["status"] == "failed" for step in ran) else 0


if __name__ == "__main__":
    sys.exit(main(parse_arguments()))
