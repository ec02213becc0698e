#!/usr/bin/env python3
"""Makes tests/golden/import/words: classifiers of texts that are no HANs, as PyTorch, its ONNX
exporter and Keras write them. Each is to be refused with what it is and what can be done.

    python3 -m pip install torch onnx keras tensorflow tf-keras
    python3 tools/golden/make_word_goldens.py"""

import os

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import pathlib
import warnings

import torch
import torch.nn as nn

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "import" / "words"
WORDS, FEATURES, UNITS, LENGTH, CLASSES = 20, 6, 4, 7, 3


class Lstm(nn.Module):
    """The last state of an LSTM."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, FEATURES)
        self.lstm = nn.LSTM(FEATURES, UNITS, batch_first=True)
        self.fc = nn.Linear(UNITS, CLASSES)

    def forward(self, ids):
        return self.fc(self.lstm(self.embedding(ids))[0][:, -1])


class AttentionGru(nn.Module):
    """Attention over all words of a document, in one level."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, FEATURES)
        self.gru = nn.GRU(FEATURES, UNITS, batch_first=True, bidirectional=True)
        self.attention, self.context = nn.Linear(2 * UNITS, UNITS), nn.Linear(UNITS, 1, bias=False)
        self.fc = nn.Linear(2 * UNITS, CLASSES)

    def forward(self, ids):
        h = self.gru(self.embedding(ids))[0]
        a = torch.softmax(self.context(torch.tanh(self.attention(h))), 1)
        return self.fc((a * h).sum(1))


class Stacked(nn.Module):
    """Two recurrent layers, both over words: no HAN for all that."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, FEATURES)
        self.first = nn.LSTM(FEATURES, UNITS, batch_first=True, bidirectional=True)
        self.second = nn.LSTM(2 * UNITS, UNITS, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(2 * UNITS, CLASSES)

    def forward(self, ids):
        return self.fc(self.second(self.first(self.embedding(ids))[0])[0].mean(1))


class TextCnn(nn.Module):
    """Kim 2014: windows of several words, as images of one channel or as sequences."""

    def __init__(self, images):
        super().__init__()
        self.images, self.embed = images, nn.Embedding(WORDS, FEATURES)
        make = (lambda k: nn.Conv2d(1, UNITS, (k, FEATURES))) if images else \
            (lambda k: nn.Conv1d(FEATURES, UNITS, k))
        self.convs = nn.ModuleList(make(k) for k in (2, 3))
        self.fc = nn.Linear(2 * UNITS, CLASSES)

    def forward(self, ids):
        x = self.embed(ids)
        x = x.unsqueeze(1) if self.images else x.transpose(1, 2)
        maps = [torch.relu(conv(x)) for conv in self.convs]
        return self.fc(torch.cat([m.flatten(2).amax(2) for m in maps], 1))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.word_embeddings = nn.Embedding(WORDS, FEATURES)
        layer = nn.TransformerEncoderLayer(FEATURES, 2, 8, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.classifier = nn.Linear(FEATURES, CLASSES)

    def forward(self, ids):
        return self.classifier(self.encoder(self.word_embeddings(ids))[:, 0])


class BagOfWords(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.fc = nn.Embedding(WORDS, FEATURES), nn.Linear(FEATURES, CLASSES)

    def forward(self, ids):
        return self.fc(self.embedding(ids).mean(1))


def save_pytorch():
    ids = torch.randint(1, WORDS, (1, LENGTH))
    nets = {"lstm": Lstm(), "attention_gru": AttentionGru(), "stacked": Stacked(),
            "cnn_2d": TextCnn(True), "cnn_1d": TextCnn(False), "transformer": Transformer(),
            "bag": BagOfWords()}
    for name, net in nets.items():
        net.eval()
        torch.save(net.state_dict(), FOLDER / f"{name}.pth")
        torch.onnx.export(net, (ids,), str(FOLDER / f"{name}.onnx"), input_names=["ids"],
                          output_names=["logits"], opset_version=17, dynamo=False)
    # The names of Hugging Face's BertForSequenceClassification.
    bert = {"bert.embeddings.word_embeddings.weight": torch.randn(WORDS, FEATURES),
            "bert.embeddings.position_embeddings.weight": torch.randn(8, FEATURES),
            "classifier.weight": torch.randn(CLASSES, FEATURES)}
    for part in ("query", "key", "value"):
        bert[f"bert.encoder.layer.0.attention.self.{part}.weight"] = torch.randn(FEATURES, FEATURES)
    torch.save(bert, FOLDER / "bert.bin")


def keras_models(k):
    layers = k.layers

    def net(*behind):
        ids = k.Input((LENGTH,), dtype="int32")
        x = layers.Embedding(WORDS, FEATURES)(ids)
        for layer in behind:
            x = layer(x)
        return k.Model(ids, layers.Dense(CLASSES, activation="softmax")(x))

    yield "lstm", net(layers.LSTM(UNITS))
    yield "bidirectional", net(layers.Bidirectional(layers.GRU(UNITS)), layers.Dropout(0.5))
    yield "cnn", net(layers.Conv1D(UNITS, 3, activation="relu"), layers.GlobalMaxPooling1D())
    yield "bag", net(layers.GlobalAveragePooling1D())
    # Vectors of words come from elsewhere: there is no Embedding.
    x = inputs = k.Input((LENGTH, FEATURES))
    x = layers.Bidirectional(layers.LSTM(UNITS))(x)
    yield "vectors", k.Model(inputs, layers.Dense(CLASSES)(x))
    # A level of sentences without attention, as the encoder's last state has none.
    words = k.Input((LENGTH,), dtype="int32")
    x = layers.LSTM(UNITS)(layers.Embedding(WORDS, FEATURES)(words))
    encoder = k.Model(words, x)
    document = k.Input((5, LENGTH), dtype="int32")
    x = layers.LSTM(UNITS)(layers.TimeDistributed(encoder)(document))
    yield "hierarchical_lstm", k.Model(document, layers.Dense(CLASSES, activation="softmax")(x))


def save_keras():
    import keras
    import tf_keras
    of_keras_3 = ("lstm", "vectors", "hierarchical_lstm")
    for k in (keras, tf_keras):
        k.utils.set_random_seed(3)
        for name, model in keras_models(k):
            if (k is keras) == (name in of_keras_3):
                model.save(FOLDER / f"keras_{name}.{'keras' if k is keras else 'h5'}")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.manual_seed(2)
    FOLDER.mkdir(parents=True, exist_ok=True)
    save_pytorch()
    save_keras()
    print(sum(path.stat().st_size for path in FOLDER.iterdir()), "bytes")
