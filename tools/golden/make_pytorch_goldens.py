#!/usr/bin/env python3
"""Makes tests/golden/import/pytorch: checkpoints as torch.save writes them, and what the networks in
them answer, computed with PyTorch in float64.

    python3 -m pip install torch numpy
    python3 tools/golden/make_pytorch_goldens.py

unet_*: one small U-Net of the paper, whose weights bf16 holds exactly, saved in many ways; all of
them are to give one set of bytes. han_*: HANs with the tensors' names and the formulas of four
repositories, written anew here; <name>.json has a text, the word of each row and the answers."""

import argparse
import collections
import json
import os
import pathlib
import pickle
import sys
import types
import zipfile

import numpy as np
import torch
import torch.nn as nn

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "import" / "pytorch"


def in_module(name, **classes):
    """Gives classes the module that the pickle will name; torch takes their source from there."""
    for end in [i for i, c in enumerate(name) if c == "."] + [len(name)]:
        module = sys.modules.setdefault(name[:end], types.ModuleType(name[:end]))
    for class_name, cls in classes.items():
        cls.__module__, cls.__qualname__, cls.__name__ = name, class_name, class_name
        setattr(module, class_name, cls)


def class_sources(text, file="networks.py"):
    """What files before 1.6 carry as the source of each class, here without this machine's paths."""
    torch.serialization.get_source_lines_and_file = lambda *_: ([text], 1, file)


# ---- one network, saved in many ways


class PaperUNet(nn.Module):
    def __init__(self, base=2, depth=2, channels=1, classes=2):
        super().__init__()

        def block(c_in, c_out):
            return nn.Sequential(nn.Conv2d(c_in, c_out, 3), nn.ReLU(), nn.Conv2d(c_out, c_out, 3), nn.ReLU())

        widths = [base << level for level in range(depth + 1)]
        self.enc = nn.ModuleList(block(a, b) for a, b in zip([channels] + widths, widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in widths[:-1])
        self.dec = nn.ModuleList(block(2 * w, w) for w in widths[:-1])
        self.out = nn.Conv2d(base, classes, 1)
        self.register_buffer("scratch", torch.zeros(3), persistent=False)

    def forward(self, x):
        maps = []
        for level, layer in enumerate(self.enc):
            x = layer(x if level == 0 else nn.functional.max_pool2d(x, 2))
            maps.append(x)
        for level in range(len(self.up) - 1, -1, -1):
            x, skip = self.up[level](x), maps[level]
            top, left = ((s - t) // 2 for s, t in zip(skip.shape[2:], x.shape[2:]))
            skip = skip[:, :, top:top + x.shape[2], left:left + x.shape[3]]
            x = self.dec[level](torch.cat([skip, x], 1))
        return self.out(x)


class Command:
    """Would run a command where pickles are trusted."""

    def __reduce__(self):
        return os.system, ("touch /tmp/the-pickle-ran",)


def save_unets():
    torch.manual_seed(1)
    net = PaperUNet().eval()
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.zeros(1, 1, 44, 44)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(parameter.bfloat16().float())
    state = net.state_dict()

    def prefixed(prefix):
        return collections.OrderedDict((prefix + name, tensor) for name, tensor in state.items())

    def save(name, value, **options):
        torch.save(value, FOLDER / f"unet_{name}", **options)

    save("bare.pt", state)
    save("module.pth", prefixed("module."))
    save("compiled.bin", {"epoch": 3, "model": prefixed("_orig_mod.module.")})
    lightning = prefixed("model.")
    lightning["criterion.weight"] = torch.ones(2)
    save("lightning.ckpt", {
        "epoch": 1, "global_step": np.int64(7), "best": np.float64(0.25), "pytorch-lightning_version": "2.4.0",
        "state_dict": lightning, "optimizer_states": [optimizer.state_dict()], "loops": {"fit": {"x": 1}},
        "hyper_parameters": argparse.Namespace(lr=0.1, name="unet"), "hook": Command()})
    in_module("study.networks", PaperUNet=PaperUNet)
    sys.modules["study.networks"].__file__ = __file__
    save("whole.pt", net)
    class_sources("class Conv2d: ...")
    save("whole_legacy.pt", net, _use_new_zipfile_serialization=False)
    save("legacy.pt", {"model_state_dict": state, "epoch": 2}, _use_new_zipfile_serialization=False)
    save("channels_last.pt", {name: tensor.contiguous(memory_format=torch.channels_last)
                              if tensor.dim() == 4 else tensor for name, tensor in state.items()})
    save("bf16.pt", {name: tensor.bfloat16() for name, tensor in state.items()})
    save("f64.pt", {name: tensor.double() for name, tensor in state.items()})
    # All tensors are parts of one storage, as some optimisers and sharded trainers leave them.
    flat, views, at = torch.cat([t.flatten() for t in state.values()]), {}, 0
    for name, tensor in state.items():
        views[name] = flat[at:at + tensor.numel()].view(tensor.shape)
        at += tensor.numel()
    save("shared.pt", views)
    save("two.pt", {"ema": {"state_dict": state}, "raw": {n: t + 1 for n, t in state.items()}})
    torch.jit.script(ScriptedUNet(net)).save(str(FOLDER / "scripted"))
    with zipfile.ZipFile(FOLDER / "scripted") as old, zipfile.ZipFile(FOLDER / "unet_scripted.ts", "w") as new:
        for member in old.infolist():
            if not member.filename.endswith(".debug_pkl"):  # paths of this machine
                new.writestr(member.filename, old.read(member.filename),
                             zipfile.ZIP_DEFLATED if "/code/" in member.filename else zipfile.ZIP_STORED)
    (FOLDER / "scripted").unlink()
    with zipfile.ZipFile(FOLDER / "unet_bare.pt") as old, \
            zipfile.ZipFile(FOLDER / "unet_deflated.zip", "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member.filename))
    with open(FOLDER / "command.pickle", "wb") as file:
        pickle.dump({"the": 1, "hook": Command()}, file, protocol=2)
    save("command.pt", {"state_dict": state, "hook": Command(), "nested": [Command(), {"x": Command()}]})


class ScriptedUNet(nn.Module):
    """The same tensors under the same names, in a form that TorchScript takes."""

    def __init__(self, net):
        super().__init__()
        self.enc, self.up, self.dec, self.out = net.enc, net.up, net.dec, net.out

    def forward(self, x):
        return self.out(self.enc[0](x))


# ---- HANs

FEATURES, HIDDEN, CLASSES = 5, 4, 3
WORDS = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda".split()
# Unknown words too; three sentences.
TEXT = "alpha beta strange gamma. theta delta. kappa alpha lambda zeta alpha eta iota."
SENTENCES = [sentence.split() for sentence in TEXT.rstrip(".").split(". ")]


def masked_attention(h, lengths, score, eps):
    """h (n, t, d), score (n, t): weights (n, t) and sums (n, d) over the true lengths."""
    mask = (torch.arange(h.shape[1])[None] < torch.tensor(lengths)[:, None]).to(h.dtype)
    e = torch.exp(score) * mask
    a = e / (e.sum(1, keepdim=True) + eps)
    return a, (a[..., None] * h).sum(1)


def packed(rnn, x, lengths):
    """batch_first, over the true lengths."""
    sequence = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return nn.utils.rnn.pad_packed_sequence(rnn(sequence)[0], batch_first=True, total_length=x.shape[1])[0]


def padded(ids):
    longest = max(map(len, ids))
    return torch.tensor([row + [0] * (longest - len(row)) for row in ids]), [len(row) for row in ids]


def masked_answer(ids, embed, word, sentence, head, eps=0.0):
    """`word` and `sentence`: (recurrent layer, h -> scores)."""
    tokens, lengths = padded(ids)
    h = packed(word[0], embed(tokens), lengths)
    word_weights, sums = masked_attention(h, lengths, word[1](h), eps)
    h = packed(sentence[0], sums[None], [len(ids)])
    sentence_weights, sums = masked_attention(h, [len(ids)], sentence[1](h), eps)
    return head(sums)[0], word_weights, sentence_weights[0]


class Rnn(nn.GRU):
    def __init__(self, features, batch_first=True):
        super().__init__(features, HIDDEN, bidirectional=True, batch_first=batch_first)


class SgrvinodWord(nn.Module):
    def __init__(self, rows):
        super().__init__()
        self.embeddings = nn.Embedding(rows, FEATURES)
        self.word_rnn = Rnn(FEATURES)
        self.word_attention = nn.Linear(2 * HIDDEN, 6)
        self.word_context_vector = nn.Linear(6, 1, bias=False)
        self.dropout = nn.Dropout(0.5)


class SgrvinodSentence(nn.Module):
    def __init__(self, rows):
        super().__init__()
        self.word_attention = SgrvinodWord(rows)
        self.sentence_rnn = Rnn(2 * HIDDEN)
        self.sentence_attention = nn.Linear(2 * HIDDEN, 6)
        self.sentence_context_vector = nn.Linear(6, 1, bias=False)
        self.dropout = nn.Dropout(0.5)


class Sgrvinod(nn.Module):
    def __init__(self, rows):
        super().__init__()
        self.sentence_attention = SgrvinodSentence(rows)
        self.fc = nn.Linear(2 * HIDDEN, CLASSES)
        self.dropout = nn.Dropout(0.5)

    def answer(self, ids):
        s = self.sentence_attention
        w = s.word_attention
        return masked_answer(
            ids, w.embeddings,
            (w.word_rnn, lambda h: w.word_context_vector(torch.tanh(w.word_attention(h)))[..., 0]),
            (s.sentence_rnn, lambda h: s.sentence_context_vector(torch.tanh(s.sentence_attention(h)))[..., 0]),
            self.fc)


class UvipenLevel(nn.Module):
    def __init__(self, kind, features, rows=0):
        super().__init__()
        setattr(self, f"{kind}_weight", nn.Parameter(torch.randn(2 * HIDDEN, 2 * HIDDEN)))
        setattr(self, f"{kind}_bias", nn.Parameter(torch.randn(1, 2 * HIDDEN)))
        self.context_weight = nn.Parameter(torch.randn(2 * HIDDEN, 1))
        self.gru = Rnn(features, batch_first=False)
        if rows:
            self.lookup = nn.Embedding.from_pretrained(torch.randn(rows, FEATURES, dtype=torch.float64))
        else:
            self.fc = nn.Linear(2 * HIDDEN, CLASSES)

    def attend(self, kind, h, outer):
        """h (t, 1, d)"""
        u = torch.tanh(h[:, 0] @ getattr(self, f"{kind}_weight") + getattr(self, f"{kind}_bias"))
        a = torch.softmax(outer((u @ self.context_weight)[:, 0]), 0)
        return a, a @ h[:, 0]


class Uvipen(nn.Module):
    max_sentences, max_words = 4, 8

    def __init__(self, rows, outer):
        super().__init__()
        self.max_sent_length, self.max_word_length = self.max_sentences, self.max_words
        self.word_att_net = UvipenLevel("word", FEATURES, rows)
        self.sent_att_net = UvipenLevel("sent", 2 * HIDDEN)
        self.word_hidden_state = torch.randn(2, 1, HIDDEN)  # what the last batch left
        self.outer = outer

    def answer(self, ids):
        rows = [row + [0] * (self.max_words - len(row)) for row in ids]
        rows += [[0] * self.max_words] * (self.max_sentences - len(rows))
        word, sentence = self.word_att_net, self.sent_att_net
        state = torch.zeros(2, 1, HIDDEN, dtype=torch.float64)
        weights, sums = [], []
        for row in rows:
            h, state = word.gru(word.lookup(torch.tensor(row))[:, None].double(), state)
            a, s = word.attend("word", h, self.outer[0])
            weights.append(a)
            sums.append(s)
        h, _ = sentence.gru(torch.stack(sums)[:, None])
        a, s = sentence.attend("sent", h, self.outer[1])
        return sentence.fc(s), torch.stack(weights), a


class CediasAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.att_w = nn.Linear(2 * HIDDEN, 1, bias=False)


class CediasLevel(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.rnn = Rnn(features)
        self.lin = nn.Linear(2 * HIDDEN, 2 * HIDDEN)
        self.att_w = nn.Linear(2 * HIDDEN, 1, bias=False)
        self.emb_att = CediasAttention()

    def scores(self, h):
        return self.emb_att.att_w(torch.tanh(self.lin(h)))[..., 0]


class Cedias(nn.Module):
    def __init__(self, rows):
        super().__init__()
        self.embed = nn.Embedding(rows, FEATURES, padding_idx=0)
        self.word, self.sent = CediasLevel(FEATURES), CediasLevel(2 * HIDDEN)
        self.lin_out = nn.Linear(2 * HIDDEN, CLASSES)

    def answer(self, ids):
        return masked_answer(ids, self.embed, (self.word.rnn, self.word.scores),
                             (self.sent.rnn, self.sent.scores), self.lin_out, eps=1e-4)


class JoungheeKimAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2 * HIDDEN, 6, bias=False)
        self.context_weight = nn.Parameter(torch.randn(6, 1))


class JoungheeKimLevel(nn.Module):
    def __init__(self, features, rows=0):
        super().__init__()
        if rows:
            self.emb = nn.Embedding(rows, FEATURES)
        self.rnn = Rnn(features)
        self.attn = JoungheeKimAttention()

    def scores(self, h):
        return (torch.tanh(self.attn.linear(h)) @ self.attn.context_weight)[..., 0]


class JoungheeKim(nn.Module):
    def __init__(self, rows):
        super().__init__()
        self.word_attention_model = JoungheeKimLevel(FEATURES, rows)
        self.sentence_attention_model = JoungheeKimLevel(2 * HIDDEN)
        self.output = nn.Linear(2 * HIDDEN, CLASSES)

    def answer(self, ids):
        w, s = self.word_attention_model, self.sentence_attention_model
        return masked_answer(ids, w.emb, (w.rnn, w.scores), (s.rnn, s.scores), self.output)


def strengthen(net):
    """Answers that depend on the words, for a golden that means something."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(2 if parameter.dim() > 1 else 1)


def save_han(name, net, word_map, unknown, value, legacy=False):
    strengthen(net)
    net.eval()
    torch.save(value(net), FOLDER / f"han_{name}.pt", _use_new_zipfile_serialization=not legacy)
    ids = [[word_map.get(word, unknown) for word in sentence] for sentence in SENTENCES]
    with torch.no_grad():
        logits, words, sentences = net.double().answer(ids)
    words = [words[i, :len(sentence)].tolist() for i, sentence in enumerate(SENTENCES)]
    with open(FOLDER / f"han_{name}.json", "w") as file:
        json.dump({"text": TEXT, "probabilities": torch.softmax(logits, 0).tolist(), "word_weights": words,
                   "sentence_weights": sentences[:len(SENTENCES)].tolist()}, file)
        file.write("\n")
    print(name, torch.softmax(logits, 0).tolist())


def save_hans():
    torch.manual_seed(2)
    # The word map of a checkpoint; the module whole.
    word_map = {"<pad>": 0} | {word: i + 1 for i, word in enumerate(WORDS)} | {"<unk>": len(WORDS) + 1}
    in_module("model", HierarchialAttentionNetwork=Sgrvinod, SentenceAttention=SgrvinodSentence,
              WordAttention=SgrvinodWord)
    save_han("sgrvinod", Sgrvinod(len(word_map)), word_map, word_map["<unk>"],
             lambda net: {"epoch": 1, "model": net, "optimizer": torch.optim.Adam(net.parameters()),
                          "word_map": word_map})
    # GloVe's lines beside a whole module, before 1.6 and after; the second without the outer tanh.
    rows = {word: i + 1 for i, word in enumerate(WORDS)}
    with open(FOLDER / "glove.txt", "w") as file:
        for word in WORDS:
            file.write(word + " 0.25 -1.5 0 1e-3 2\n")
    in_module("src.hierarchical_att_model", HierAttNet=Uvipen)
    in_module("src.word_att_model", WordAttNet=UvipenLevel)
    save_han("uvipen", Uvipen(len(rows) + 1, (torch.tanh, torch.tanh)), rows, 0, lambda net: net)
    class_sources("output = matrix_mul(output, self.context_weight,apply_tanh=False).permute(1,0)")
    save_han("uvipen_plain", Uvipen(len(rows) + 1, (torch.Tensor.double, torch.Tensor.double)), rows, 0,
             lambda net: net, legacy=True)
    # The word map in the state dict; words of other sets have the unknown one's row.
    word_map = {word: i + 2 for i, word in enumerate(WORDS)} | {"_pad_": 0, "_unk_": 1, "strange": 1}
    save_han("cedias", Cedias(len(WORDS) + 2), word_map, 1,
             lambda net: collections.OrderedDict(**net.state_dict(), word_dic=word_map))
    # A list of words beside the checkpoint.
    with open(FOLDER / "words.txt", "w") as file:
        file.write("\n".join(WORDS) + "\n")
    save_han("joungheekim", JoungheeKim(len(rows) + 1), rows, 0,
             lambda net: {"epoch": 2, "model": net.state_dict(),
                          "config": argparse.Namespace(max_sent_len=6, max_word_len=9, lr=0.1)})


def save_vocabularies():
    words = {word: i for i, word in enumerate(WORDS)} | {"caf\u00e9": 40, "\u4f60\u597d": 41}
    for protocol in range(6):
        with open(FOLDER / f"words_{protocol}.pickle", "wb") as file:
            pickle.dump(collections.OrderedDict(words) if protocol % 2 else words, file, protocol=protocol)
    with open(FOLDER / "words.json", "w") as file:
        json.dump(json.dumps(words), file)


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    save_unets()
    save_hans()
    save_vocabularies()
