#!/usr/bin/env python3
"""Predicts from the compiled kernels, without a GPU, how long each 3x3 convolution of the paper's UNet takes on an H100.

    tools/bench/predict.py [--batch N ...] [--side 572] [--cubins FOLDER]   a table for each batch
    tools/bench/predict.py --check                                          compares what it reads with FACTS
    tools/bench/predict.py --record                                         writes FACTS anew

What it reads: registers and spills (cuobjdump), instruction slots of the hot loop (nvdisasm), tiles and rates of the choice (cuda_choice.cpp). Needs nvcc and the two
disassemblers: the toolkit's, or the PyPI packages nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm. Where they are
missing, --check exits with 77. Nothing here is a measurement.
"""
import argparse
import json
import math
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FACTS = ROOT / "tools" / "bench" / "predicted_from.json"
SOURCES = ["sm80_mma", "sm90_wgmma"]
SKIPPED = 77

# The model's constants, each with its source. H100 SXM5: 132 multiprocessors, 4 tensor cores each, 1.755 GHz boost.
MULTIPROCESSORS = 132
PRODUCTS = 2048  # bf16, a clock and multiprocessor: 989 TFLOP/s at 1.83 GHz (NVIDIA's data sheet)
CLOCK = 790e12 / (2 * PRODUCTS * MULTIPROCESSORS)  # what power leaves of it: 790 TFLOP/s, the best cuBLAS measured
MMA_RATE = 0.62  # of mma.sync relative to wgmma (public micro-benchmarks of Hopper)
MMA_OVERLAP = 0.82  # of that, two blocks a multiprocessor: 400 TFLOP/s sustained (the audit's estimate)
L2_BYTES = 6e12  # a second, all multiprocessors (the audit's estimate)
L2_CLOCK_BYTES = 64  # one multiprocessor by itself at most, a clock (its port to L2)
HBM_BYTES = 3.0e12  # a second: 3.35 TB/s by the data sheet, 90% of it
LATENCY_CLOCKS = 1000  # from a block's start to its first product: barriers, tensor maps, a read from memory
LAUNCH = 1.5e-6  # seconds between kernels of a CUDA graph that the next one does not hide
# Layers whose kernels are not 3x3 convolutions on tensor cores, in seconds an image of 572 x 572 (the audit's table).
OTHERS = {"down0/conv1": 26e-6, "up3/up": 19e-6, "up2/up": 17e-6, "up1/up": 14e-6, "up0/up": 13e-6, "head": 10e-6}


def tool(name):
    """The path of a tool of the CUDA toolkit, or None."""
    found = shutil.which(name) or shutil.which(name, path="/usr/local/cuda/bin")
    if found:
        return found
    for folder in sys.path:
        for path in pathlib.Path(folder or ".").glob(f"nvidia/*/bin/{name}"):
            return str(path)
    return None


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def compile_kernels(folder):
    for source in SOURCES:
        run(tool("nvcc"), "-std=c++20", "-O3", f"-I{ROOT}", "-DTESSERA_SM90A", "-gencode=arch=compute_90a,code=sm_90a",
            "-cubin", str(ROOT / "kernels" / "ops" / "conv" / f"{source}.cu"), "-o", str(folder / f"{source}.cubin"))


# ---- What the compiler made


def instructions_of(text):
    """A function's instructions, and where its labels stand."""
    instructions, labels = [], {}
    for line in text.split("\n"):
        label = re.match(r"\s*(\.L_x_\d+):", line)
        instruction = re.search(r"/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;", line)
        if label:
            labels[label.group(1)] = len(instructions)
        elif instruction:
            instructions.append(instruction.group(1))
    return instructions, labels


def is_tensor(instruction):
    return "HGMMA." in instruction or "HMMA." in instruction


def path(code, targets, begin, end, weight):
    """(sum of weights, instructions) on the way from `begin` to `end` that has the largest sum; of several, on the
    shortest. `weight` is an instruction's, given its place."""
    best = {end: (weight(end), 1)}
    for i in range(end - 1, begin - 1, -1):
        following = [] if code[i].startswith(("BRA", "EXIT")) else [i + 1]
        if targets[i] is not None and i < targets[i] <= end:
            following.append(targets[i])
        ways = [best[j] for j in following if j in best]
        if ways:
            total, slots = max(ways, key=lambda way: (way[0], -way[1]))
            best[i] = (total + weight(i), slots + 1)
    return best[begin]


def slots_of(text):
    """Instructions, and tensor instructions, of one round of the innermost loop that has some, and instructions behind
    it to the end of the loop over tiles (0 without one).

    Of the ways through the round, the one with most tensor instructions, then most copies that stand in no loop of their
    own: a tap that copies weights, and no pixels, which go with one tap in nine. Behind it, the one that stores sums."""
    code, labels = instructions_of(text)
    targets = [labels.get(m.group(1)) if (m := re.search(r"BRA.*`\((\.L_x_\d+)\)", c)) else None for c in code]
    backward = [(target, end) for end, target in enumerate(targets) if target is not None and target <= end]
    loops = sorted((loop for loop in backward if any(map(is_tensor, code[loop[0]:loop[1] + 1]))),
                   key=lambda loop: loop[1] - loop[0])
    begin, end = loops[0]
    nested = {i for first, last in backward if begin < first and last < end for i in range(first, last + 1)}
    copies = lambda i: "LDGSTS" in code[i] and i not in nested
    total, slots = path(code, targets, begin, end, lambda i: 1000 * is_tensor(code[i]) + copies(i))
    outer = next((loop for loop in loops if loop[0] < begin and loop[1] > end), None)
    behind = path(code, targets, end + 1, outer[1], lambda i: "STSM" in code[i])[1] if outer else 0
    return slots, total // 1000, behind


def name_of_tile(symbol):
    """The tile of a bf16 kernel with a window of 3 as the choice names it, and its template's arguments; or None."""
    arguments = [int(x) for x in re.findall(r"Li(\d+)E", symbol.rsplit("Tile", 1)[-1])]
    if "nv_bfloat16" not in symbol or len(arguments) < 4:
        return None
    if "WgmmaTile" in symbol:
        groups, rows = arguments[:2]
        return f"wgmma {rows * 8 * (2 // groups)}x{64 * groups}", arguments
    if "nv_bfloat16Li3E" in symbol and "MmaTile" in symbol:
        return f"mma {arguments[0] * arguments[1]}x{arguments[2]}", arguments
    return None


def weight_slots(groups, rows, staged, boxes):
    """Taps of weights that shared memory has room for, beside boxes and what is staged, as WgmmaTile has it."""
    rest = 227 * 1024 - 1024 - boxes * (rows + 2) * 1024 - 2 * staged * 1024
    return min(rest // (groups * 64 * 128), 9)


def read_kernels(folder):
    facts = {}
    for source in SOURCES:
        cubin = str(folder / f"{source}.cubin")
        usage = run(tool("cuobjdump"), "--dump-resource-usage", cubin)
        resources = dict(re.findall(r"Function (\S+):\s*\n\s*(REG:.*)", usage))
        functions = re.split(r"\n\.text\.([^\n]*):\n", run(tool("nvdisasm"), "-c", cubin))
        for symbol, text in zip(functions[1::2], functions[2::2]):
            tile = name_of_tile(symbol)
            if tile is None:
                continue
            used = {key: int(value) for key, value in re.findall(r"(\w+):(\d+)", resources[symbol])}
            slots, tensor, epilogue = slots_of(text)
            facts[tile[0]] = {
                "slots": slots, "tensor": tensor, "threads": 384 if "wgmma" in tile[0] else 128,
                "registers": used["REG"], "stack": used["STACK"] + used["LOCAL"],
                "most_registers": 1 + max(map(int, re.findall(r"\bR(\d+)\b", text))),
                "epilogue": epilogue if "wgmma" in tile[0] else 0}
            if "wgmma" in tile[0]:
                facts[tile[0]]["weight_slots"] = weight_slots(*tile[1][:4])
    return dict(sorted(facts.items()))


def fact_of(facts, tile):
    """Of the kernel that makes a tile: pairs are the same kernel as single blocks."""
    return facts[tile.replace("pair ", "")]


# ---- The choice: its tiles and rates, from its source


def read_choice():
    text = (ROOT / "kernels" / "ops" / "conv" / "cuda_choice.cpp").read_text()
    tiles = {}
    keys = ("rows", "columns", "channels", "resident", "pair")
    for name, kind, numbers in re.findall(r'return \{"([^"]+)", k(\w+), ([\d, ]+)\}', text):
        numbers = [int(number) for number in numbers.split(", ")]
        tiles[name] = dict(zip(keys, numbers + [1]), kind=kind.lower())
    for full, alone, name in re.findall(r"\{([\d.]+), ([\d.]+)\},\s*// (\w+ (?:pair )?\d+x\d+)", text):
        tiles[name].update(full=float(full), alone=float(alone))
    return tiles


def tiles_of(tile, n, side, c_out):
    """A pair's last tile may be none."""
    pixels = n * math.ceil(side / tile["rows"]) * math.ceil(side / tile["columns"])
    return math.ceil(pixels / tile["pair"]) * tile["pair"] * math.ceil(c_out / tile["channels"])


def blocks_at_once(tile):
    """Of persistent blocks, which come one to a multiprocessor, or of pairs of them."""
    return MULTIPROCESSORS // tile["pair"] * tile["pair"]


def chosen(tiles, kind, n, side, c_out):
    """As choose_conv does."""
    def time(name):
        tile = tiles[name]
        busy = lambda blocks: 1 - (1 - tile["alone"]) ** blocks
        size = tile["rows"] * tile["columns"] * tile["channels"]
        most = math.ceil(tiles_of(tile, n, side, c_out) / blocks_at_once(tile))
        rest = most % tile["resident"]
        late = size * rest * busy(tile["resident"]) / (tile["full"] * busy(rest)) if rest else 0
        return size * (most - rest) / tile["full"] + late
    return min((name for name in tiles if tiles[name]["kind"] == kind), key=time)


# ---- The model


def predict(tile, fact, n, side, c_in, c_out):
    """Seconds of a 3x3 convolution whose output is `side` x `side`, what binds it, bytes from L2, bytes of memory."""
    rows, columns, channels = tile["rows"], tile["columns"], tile["channels"]
    blocks = tiles_of(tile, n, side, c_out)
    active = min(blocks, MULTIPROCESSORS)
    l2_of_one = min(L2_BYTES / active, L2_CLOCK_BYTES * CLOCK)  # bytes a second
    most = math.ceil(blocks / blocks_at_once(tile))
    products = rows * columns * channels * 9 * math.ceil(c_in / 64) * 64
    if tile["kind"] == "wgmma":
        pixels = 3 * (rows + 2) * columns * 2
        stay = fact["weight_slots"] == 9 and c_in <= 64 and c_out <= channels
        weights = 0 if stay else 9 * channels * 2 / tile["pair"]
        tensor = products / PRODUCTS / CLOCK
        # Slots of a scheduler, which has a warp of each of the two consumers.
        issue = 2 * fact["slots"] * 3 * math.ceil(c_in / 64) / CLOCK
        l2_bytes = (pixels + weights) * math.ceil(c_in / 64) * 64
        l2 = l2_bytes / l2_of_one
        # Consumers beside each other in pixels take turns: one multiplies while the other stores.
        epilogue = fact["epilogue"] * (1 if channels == 64 else 2) / CLOCK
        block = max(tensor, issue, l2)
        binds = "L2" if block == l2 else "tensor" if block == tensor else "issue"
        seconds = most * (block + epilogue) + LATENCY_CLOCKS / CLOCK
    else:
        pixels, weights = (rows + 2) * (columns + 2) * 2, 9 * channels * 2
        taps = 9 * math.ceil(c_in / 32)
        warps = 4
        tensor_instructions = rows * columns * channels * 32 / 2048 / warps  # of a warp and tap
        tensor = taps * tensor_instructions * 4 / MMA_RATE
        issue = taps * tensor_instructions * fact["slots"] / fact["tensor"]
        alone = max(tensor, issue) / MMA_OVERLAP / CLOCK  # a block's share of a full multiprocessor
        l2_bytes = (pixels + weights) * c_in
        l2 = l2_bytes / l2_of_one
        block = max(alone, l2)
        binds = "L2" if block == l2 else "tensor" if tensor >= issue else "issue"
        busy = lambda count: 1 - (1 - tile["alone"]) ** count
        rest = most % tile["resident"]
        late = rest * block * busy(tile["resident"]) / busy(rest) if rest else 0
        seconds = (most - rest) * block + late + LATENCY_CLOCKS / CLOCK
    memory_bytes = 2 * (n * (side + 2) ** 2 * c_in + n * side ** 2 * c_out + 9 * c_in * c_out)
    if memory_bytes / HBM_BYTES > seconds:
        seconds, binds = memory_bytes / HBM_BYTES, "memory"
    return seconds + LAUNCH, binds, blocks * l2_bytes, memory_bytes


def blocks_held(fact):
    """Blocks that the registers of a multiprocessor suffice for."""
    return 65536 // (fact["threads"] * 8 * math.ceil(fact["registers"] / 8))


def layers_of_unet(side):
    """(name, side of y, c_in, c_out) of the 3x3 convolutions that tensor cores can run; valid padding, base 64."""
    layers, width = [], 64
    for level in range(5):
        name = f"down{level}" if level < 4 else "bottom"
        for i, c_in in ((1, width // 2 if level else 1), (2, width)):
            side -= 2
            if c_in > 1:
                layers.append((f"{name}/conv{i}", side, c_in, width))
        if level < 4:
            side, width = side // 2, 2 * width
    for level in range(3, -1, -1):
        side, width = 2 * side, width // 2
        for i, c_in in ((1, 2 * width), (2, width)):
            side -= 2
            layers.append((f"up{level}/conv{i}", side, c_in, width))
    return layers


def rows_of(facts, batch, side):
    """For each layer: its name, its time at 790 TFLOP/s, and for mma and wgmma (tile, rounds, seconds, what binds, bytes
    from L2, bytes of memory)."""
    tiles = read_choice()
    for name, size, c_in, c_out in layers_of_unet(side):
        ways = []
        for kind in ("mma", "wgmma"):
            tile = chosen(tiles, kind, batch, size, c_out)
            rounds = tiles_of(tiles[tile], batch, size, c_out) / MULTIPROCESSORS
            ways.append((tile, rounds, *predict(tiles[tile], fact_of(facts, tile), batch, size, c_in, c_out)))
        yield name, 2 * batch * size ** 2 * c_out * c_in * 9 / 790e12, ways


def others(batch, side):
    return batch * sum(OTHERS.values()) * (side / 572) ** 2


def totals_of(facts, batch, side):
    """Seconds of the network with mma and with wgmma."""
    rows = list(rows_of(facts, batch, side))
    return [others(batch, side) + sum(ways[i][2] for _, _, ways in rows) for i in (0, 1)]


def table(facts, batch, side):
    print(f"\nUNet {side} x {side}, bf16, batch {batch}, PREDICTED us (no GPU was used)")
    rows = list(rows_of(facts, batch, side))
    print(f"{'layer':13}{'floor':>7}" + 2 * f"  {'tile':18}{'rounds':>6}{'us':>8} {'binds':6}")
    for name, floor, ways in rows:
        print(f"{name:13}{1e6 * floor:7.1f}" + "".join(f"  {tile:18}{rounds:6.2f}{1e6 * seconds:8.1f} {binds:6}"
                                                       for tile, rounds, seconds, binds, *_ in ways))
    before, after = totals_of(facts, batch, side)
    l2_before, l2_after = (sum(ways[i][4] for _, _, ways in rows) / 1e9 for i in (0, 1))
    memory = sum(ways[0][5] for _, _, ways in rows) / 1e9
    print(f"these layers read {l2_before:.2f} -> {l2_after:.2f} GB from L2; {memory:.2f} GB go to and from memory")
    print(f"the network, {1e6 * others(batch, side):.0f} us of other layers included: {1e6 * before:.0f} us "
          f"with mma -> {1e6 * after:.0f} us with wgmma, PREDICTED")


# ---- The check that CI keeps


def compare(facts, recorded):
    """What got worse since the facts were recorded."""
    worse = []
    for name, old in recorded.items():
        new = facts.get(name)
        if new is None:
            worse.append(f"{name}: its kernel is gone; tools/bench/predict.py --record")
            continue
        if new["stack"] > 0:
            worse.append(f"{name}: {new['stack']} bytes of stack, expected none")
        if not new["slots"] / new["tensor"] <= 1.05 * old["slots"] / old["tensor"]:
            worse.append(f"{name}: {new['slots']} instructions for {new['tensor']} tensor instructions, "
                         f"were {old['slots']} for {old['tensor']}")
        for key in ("registers", "epilogue"):
            if not new[key] <= 1.05 * old[key]:
                worse.append(f"{name}: {key} {new[key]}, were {old[key]}")
    return worse


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--side", type=int, default=572)
    parser.add_argument("--cubins", type=pathlib.Path, help="compiled before: sm80_mma.cubin, sm90_wgmma.cubin")
    parser.add_argument("--facts", type=pathlib.Path, help="recorded ones instead of what is compiled now")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    if min(options.batch) < 1:
        parser.error(f"--batch takes numbers from 1 on, not {min(options.batch)}")
    if min(size for _, size, _, _ in layers_of_unet(options.side)) < 1:
        parser.error(f"--side {options.side} leaves the UNet no pixels: take 188 or more")
    for path in (options.facts, options.cubins):
        if path and not path.exists():
            parser.error(f"{path} is not there")

    if options.facts:
        facts = json.loads(options.facts.read_text())
    else:
        needed = ["cuobjdump", "nvdisasm"] + ([] if options.cubins else ["nvcc"])
        missing = [name for name in needed if tool(name) is None]
        if missing:
            print(f"predict.py needs {', '.join(missing)}: install the CUDA toolkit, or nvidia-cuda-cuobjdump and "
                  "nvidia-cuda-nvdisasm from PyPI; --facts tools/bench/predicted_from.json needs none", file=sys.stderr)
            return SKIPPED if options.check else 1
        with tempfile.TemporaryDirectory() as temporary:
            folder = options.cubins or pathlib.Path(temporary)
            if not options.cubins:
                compile_kernels(folder)
            facts = read_kernels(folder)
    if options.record:
        FACTS.write_text(json.dumps(facts, indent=1) + "\n")
    if options.check:
        worse = compare(facts, json.loads(FACTS.read_text()))
        print("\n".join(worse) or "the compiled kernels are as they were recorded, or better")
        return 1 if worse else 0
    for name, fact in facts.items():
        print(f"{name:14} {fact['slots'] / fact['tensor']:5.2f} slots a tensor instruction, {fact['registers']} "
              f"registers (most {fact['most_registers']}), {blocks_held(fact)} blocks held, {fact['stack']} bytes of stack")
    for batch in options.batch:
        table(facts, batch, options.side)
    return 0


if __name__ == "__main__":
    sys.exit(main())
