#!/usr/bin/env python3
"""Asks whether the tests would notice: deletes or weakens one synchronisation or bound of a CUDA kernel at a time,
and runs the kernel's tests under the emulator (tests/simt/emulator). A mutant that no test notices survives.

    tools/mutate_kernels.py [--build build] [--jobs 2] [--json FILE] [OPERATOR ...]

Needs a build with the emulator's tests (tools/test.sh makes one). A nightly command: some 20 s a mutant. Exit code 1
where fewer than 95% are noticed, not counting those that tools/mutation_survivors.json explains as harmless.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SURVIVORS = ROOT / "tools" / "mutation_survivors.json"
LEAST_NOTICED = 0.95
TEST_SECONDS = 120

# (what is done, where, what takes its place)
MUTATIONS = [
    ("barrier deleted", r"__syncthreads\(\);", ";"),
    ("warp barrier deleted", r"__syncwarp\([^;]*\);", ";"),
    ("named barrier deleted", r"ptx::bar_(?:sync|arrive)\([^;]*\);", ";"),
    ("cluster barrier deleted", r"ptx::cluster_sync\(\);", ";"),
    ("wait deleted", r"ptx::cp_async_wait<[^;]*>\(\);", ";"),
    ("wait weakened", r"ptx::cp_async_wait<([^;]*)>\(\);", r"ptx::cp_async_wait<(\1) + 1>();"),
    ("commit deleted", r"ptx::cp_async_commit\(\);", ";"),
    ("mbarrier wait deleted", r"ptx::mbar_wait\([^;]*\);", ";"),
    ("fence deleted", r"ptx::(?:fence_\w+|wgmma_fence|wgmma_commit)\(\);", ";"),
    ("wgmma wait deleted", r"ptx::wgmma_wait<[^;]*>\(\);", ";"),
    ("store wait deleted", r"ptx::tma_store_(?:wait<[^;]*>|commit)\(\);", ";"),
    ("zero fill lost", r"\?\s*(\w+)\s*:\s*0\)", r"? \1 : \1)"),
    # A bound that guards memory or work: `if (... < n)` and `for (...; i < n; ...)`, one further.
    ("bound widened", r"(?<=[\w\])])\s<\s(?=[\w(])", " <= "),
]
# What `<` also means: template arguments and shifts never match with blanks around them; a bound that compile time
# settles changes the program's shape, not its safety.
NOT_A_BOUND = re.compile(r"static_assert|template\s*<|constexpr|simt::launch|#pragma")
# What is the same either way: the smaller of two, and what is compared with a number written out (a sign, a clamp).
HARMLESS = re.compile(r"^ < (\d[\d.]*f?|(\w+::)?k[A-Z]\w*)( / \d+| - 1)?\s*[;?)]|^ < [^?:;]*\?[^:]*:")


def code_only(text):
    """`text` with comments and strings blanked, so that nothing in them is mutated."""
    blank = lambda match: re.sub(r"[^\n]", " ", match.group(0))
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\])*"', blank, text, flags=re.S)


def mutants_of(path):
    text = path.read_text()
    code = code_only(text)
    kernels = re.search(r"namespace \{", code)
    # Host code (launchers, choices) lies behind the anonymous namespace; device headers are all device code.
    end = code.find("}  // namespace\n", kernels.end() if kernels else 0) if path.suffix == ".cu" else len(code)
    end = len(code) if end < 0 else end
    for what, pattern, replacement in MUTATIONS:
        for match in re.finditer(pattern, code[:end]):
            line_start = code.rfind("\n", 0, match.start()) + 1
            line_end = code.find("\n", match.end())
            line = code[line_start:line_end]
            if what == "bound widened" and (NOT_A_BOUND.search(line) or HARMLESS.search(code[match.start():line_end])):
                continue
            changed = text[:match.start()] + match.expand(replacement) + text[match.end():]
            yield {
                "file": str(path.relative_to(ROOT)),
                "line": text.count("\n", 0, match.start()) + 1,
                "what": what,
                "code": text[line_start:line_end].strip(),
                "text": changed,
            }


def operator_of(path):
    """The operator that a kernel is of; "cuda" for what several share."""
    parts = path.relative_to(ROOT / "kernels").parts
    return parts[1] if parts[0] in ("ops", "train") else parts[0]


def test_of(path):
    """A shared kernel's test has the file's own name."""
    operator = operator_of(path)
    if operator == "cuda":
        return path.stem
    return f"{operator}_backward" if path.parent.name == "train" else operator


class Build:
    """The commands that made the emulator's test program, to make it again from changed sources."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder).resolve()
        self.commands = {}
        for variant in ("check", "plain"):
            target = f"tessera_simt_tests_{variant}"
            lines = subprocess.run(["ninja", "-C", str(self.folder), "-t", "commands", target], check=True,
                                   capture_output=True, text=True).stdout.splitlines()
            compiles = {}
            for line in lines:
                match = re.search(r"-o (\S*tessera_simt_kernels_%s\S*\.o) -c (\S+\.cu)" % variant, line)
                if match:
                    compiles[pathlib.Path(match.group(2)).resolve()] = (line, match.group(1))
            self.commands[variant] = (compiles, lines[-1], target)

    def sources_of(self, path):
        """The .cu files that `path` is, or that include it."""
        if path.suffix == ".cu":
            return [path]
        users, frontier = set(), {path}
        while frontier:
            header = frontier.pop()
            name = str(header.relative_to(ROOT))
            for other in ROOT.glob("kernels/**/*.cu*"):
                if f'#include "{name}"' in other.read_text() and other not in users:
                    users.add(other)
                    frontier.add(other)
        return sorted(user for user in users if user.suffix == ".cu")

    def notices(self, variant, mutant, environment, scratch):
        """How the tests notice the mutant, or None."""
        compiles, link, target = self.commands[variant]
        path = ROOT / mutant["file"]
        overlay = scratch / "overlay"
        changed = overlay / mutant["file"]
        changed.parent.mkdir(parents=True, exist_ok=True)
        changed.write_text(mutant["text"])
        program = scratch / f"{variant}-tests"
        link = re.sub(r"-o \S*%s(?=\s)" % target, f"-o {program}", link)
        filters = set()
        for source in self.sources_of(path):
            if source not in compiles:
                continue
            command, old = compiles[source]
            new = scratch / f"{variant}-{test_of(source)}-{source.name}.o"
            # The changed file is found first: as the source itself, or through the include path.
            compiled = changed if source == path else source
            command = command.replace(f"-o {old} -c {source}", f"-o {new} -c {compiled}")
            command = re.sub(r"(\s)-I", rf"\1-I{overlay} -I", command, count=1)
            command = re.sub(r"-MF \S+", f"-MF {new}.d", command)
            done = subprocess.run(command, shell=True, cwd=self.folder, capture_output=True, text=True)
            if done.returncode:
                return "does not compile"
            link = link.replace(old, str(new))
            for end in ("_test.cpp", "_any_test.cpp"):
                test = ROOT / "tests" / "cuda" / f"{test_of(source)}{end}"
                if not test.exists():
                    continue
                filters |= {f"{name}.*" for name in re.findall(r"using (Cuda\w+) = CudaTest", test.read_text())}
        if not filters:
            return "no test runs this file"
        done = subprocess.run(link, shell=True, cwd=self.folder, capture_output=True, text=True)
        if done.returncode:
            return "does not link"
        try:
            done = subprocess.run([str(program), f"--gtest_filter={':'.join(sorted(filters))}", "--gtest_brief=1"],
                                  capture_output=True, text=True, errors="replace", timeout=TEST_SECONDS,
                                  env={**os.environ, **environment})
        except subprocess.TimeoutExpired:
            return "it hangs"
        if done.returncode == 0:
            return None
        output = done.stdout + done.stderr
        found = re.search(r"(RACE|OUT OF BOUNDS|UNINITIALISED|DEADLOCK|LIVELOCK|BARRIER|ASYNC|MISALIGNED|WARP|invalid access)",
                          output)
        return found.group(1) if found else "wrong result"


RUNS = [("check", {}), ("plain", {"SIMT_ASYNC": "late"}), ("plain", {"SIMT_ASYNC": "early"})] + [
    ("plain", {"SIMT_ASYNC": "random", "SIMT_SEED": str(seed)}) for seed in (1, 2, 3)]


def judge(build, mutant):
    with tempfile.TemporaryDirectory() as folder:
        for variant, environment in RUNS:
            how = build.notices(variant, mutant, environment, pathlib.Path(folder))
            if how in ("does not compile", "no test runs this file", "does not link"):
                return {**mutant, "noticed": None, "how": how}
            if how:
                return {**mutant, "noticed": variant, "how": how}
    return {**mutant, "noticed": "", "how": "SURVIVES"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("operators", nargs="*", help="names of operators, or cuda; all by default")
    parser.add_argument("--build", default=str(ROOT / "build"), help="build folder with the emulator's tests")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--json", help="also write every mutant's fate to this file")
    parser.add_argument("--what", default="", help="only mutations whose kind matches this expression, e.g. 'barrier|wait'")
    parser.add_argument("--list", action="store_true", help="only list the mutants")
    arguments = parser.parse_args()

    sources = sorted((ROOT / "kernels").glob("**/*.cu*"))
    folders = arguments.operators or {operator_of(f) for f in sources}
    files = [f for f in sources if operator_of(f) in folders]
    mutants = [m for file in files for m in mutants_of(file) if re.search(arguments.what, m["what"])]
    if arguments.list:
        for m in mutants:
            print(f"{m['file']}:{m['line']}: {m['what']}: {m['code']}")
        print(f"{len(mutants)} mutants")
        return 0

    build = Build(arguments.build)
    fates = []
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for task in concurrent.futures.as_completed([pool.submit(judge, build, mutant) for mutant in mutants]):
            fate = task.result()
            fate.pop("text")
            fates.append(fate)
            print(f"{fate['file']}:{fate['line']}: {fate['what']}: {fate['how']}   {fate['code']}", flush=True)

    fates.sort(key=lambda fate: (fate["file"], fate["line"]))
    explained = {(e["file"], e["what"], e["code"]): e["why"] for e in json.loads(SURVIVORS.read_text())} if SURVIVORS.exists() else {}
    judged = [f for f in fates if f["noticed"] is not None]
    survivors = [f for f in judged if not f["noticed"]]
    unexplained = [f for f in survivors if (f["file"], f["what"], f["code"]) not in explained]
    # A survivor that is explained changes nothing that a test could see: it is no mutant to notice.
    noticed = len(judged) - len(survivors)
    share = noticed / max(1, noticed + len(unexplained))
    print(f"\n{noticed} of {len(judged)} mutants noticed, {len(survivors)} survive, {len(unexplained)} of them unexplained")
    for f in survivors:
        why = explained.get((f["file"], f["what"], f["code"]), "UNEXPLAINED")
        print(f"  {f['file']}:{f['line']}: {f['what']}: {f['code']}\n      {why}")
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps({"mutants": len(judged), "noticed": share, "fates": fates}, indent=1) + "\n")
    return 1 if share < LEAST_NOTICED else 0


if __name__ == "__main__":
    sys.exit(main())
