// Parts of the Python that pytorch_export.cpp writes: what torch.nn lacks. A module file has those
// that its network uses.
#pragma once

#include <string_view>

namespace tessera {

struct TorchHelper {
  std::string_view name;  // of the class or function
  std::string_view source;
};

inline constexpr TorchHelper kTorchHelpers[] = {
    {"within", R"(def within(lengths, t):
    """(..., t): whether a step is one of its sequence."""
    return torch.arange(t, device=lengths.device) < lengths[..., None]
)"},
    {"Recurrent", R"(class Recurrent(nn.RNNBase):
    """A GRU or LSTM in both directions, step by step, for what torch.nn.GRU and LSTM cannot:
    gates of a hard sigmoid, a GRU that resets before the product, states that go on from one
    sequence to the next. The weights are those of torch.nn."""

    def __init__(self, cell, features, units, hard, reset_after, carried):
        super().__init__(cell, features, units, batch_first=True, bidirectional=True)
        self.hard, self.reset_after, self.carried = hard, reset_after, carried

    def gate(self, x):
        return (0.2 * x + 0.5).clamp(0, 1) if self.hard else x.sigmoid()

    def step(self, x, h, c, suffix):
        w_ih, w_hh = getattr(self, "weight_ih_l0" + suffix), getattr(self, "weight_hh_l0" + suffix)
        b_ih, b_hh = getattr(self, "bias_ih_l0" + suffix), getattr(self, "bias_hh_l0" + suffix)
        if self.mode == "LSTM":
            i, f, g, o = F.linear(x, w_ih, b_ih).add(F.linear(h, w_hh, b_hh)).chunk(4, -1)
            c = self.gate(f) * c + self.gate(i) * g.tanh()
            return self.gate(o) * c.tanh(), c
        x_r, x_z, x_n = F.linear(x, w_ih, b_ih).chunk(3, -1)
        h_r, h_z, h_n = F.linear(h, w_hh, b_hh).chunk(3, -1)
        r, z = self.gate(x_r + h_r), self.gate(x_z + h_z)
        if self.reset_after:
            n = (x_n + r * h_n).tanh()
        else:
            units = h.shape[-1]
            n = (x_n + F.linear(r * h, w_hh[2 * units:], b_hh[2 * units:])).tanh()
        return (1 - z) * n + z * h, c

    def direction(self, x, keep, state, reverse):
        h, c = state
        t = x.shape[-2]
        out = [None] * t
        for i in reversed(range(t)) if reverse else range(t):
            new_h, new_c = self.step(x[..., i, :], h, c, "_reverse" if reverse else "")
            inside = keep[..., i, None]
            h, c = torch.where(inside, new_h, h), torch.where(inside, new_c, c)
            out[i] = h * inside
        return torch.stack(out, -2), (h, c)

    def forward(self, x, lengths=None):
        t = x.shape[-2]
        if self.carried:  # (documents, sequences, t, features)
            keep = torch.ones(x.shape[0], t, dtype=torch.bool, device=x.device)
            states = [(x.new_zeros(x.shape[0], self.hidden_size),) * 2] * 2
            rows = []
            for sequence in x.unbind(1):
                both = [self.direction(sequence, keep, states[d], d == 1) for d in (0, 1)]
                states = [state for _, state in both]
                rows.append(torch.cat([out for out, _ in both], -1))
            return torch.stack(rows, 1)
        shape = x.shape[:-2]
        keep = torch.ones(*shape, t, dtype=torch.bool, device=x.device)
        if lengths is not None:
            keep = within(lengths, t)
        state = (x.new_zeros(*shape, self.hidden_size),) * 2
        return torch.cat([self.direction(x, keep, state, d == 1)[0] for d in (0, 1)], -1)
)"},
    {"recurrent", R"(def recurrent(layer, x, lengths=None):
    """A layer of torch.nn over (..., t, features); steps behind a length give zeros."""
    rows = x.reshape(-1, *x.shape[-2:])
    if lengths is None:
        return layer(rows)[0].reshape(*x.shape[:-1], -1)
    counts = lengths.reshape(-1)
    packed = nn.utils.rnn.pack_padded_sequence(
        rows, counts.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
    y, _ = nn.utils.rnn.pad_packed_sequence(
        layer(packed)[0], batch_first=True, total_length=rows.shape[1])
    return (y * within(counts, rows.shape[1])[..., None]).reshape(*x.shape[:-1], -1)
)"},
    {"Attention", R"(class Attention(nn.Module):
    """Pools (..., t, d) by a context vector (Yang et al. 2016); returns the attention, too."""

    def __init__(self, units, d, eps, tanh_score):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(units, d))
        self.bias = nn.Parameter(torch.zeros(units))
        self.context = nn.Parameter(torch.zeros(units))
        self.eps, self.tanh_score = eps, tanh_score

    def forward(self, x, lengths=None):
        e = F.linear(x, self.weight, self.bias).tanh() @ self.context
        if self.tanh_score:
            e = e.tanh()
        keep = torch.ones_like(e, dtype=torch.bool)
        if lengths is not None:
            keep = within(lengths, x.shape[-2])
        most = e.masked_fill(~keep, -torch.inf).amax(-1, keepdim=True)
        most = torch.where(keep.any(-1, keepdim=True), most, torch.zeros_like(most))
        power = (e - most).exp().masked_fill(~keep, 0)
        total = power.sum(-1, keepdim=True) + self.eps * (-most).exp()
        attention = power / torch.where(keep.any(-1, keepdim=True), total, torch.ones_like(total))
        return (attention[..., None] * x).sum(-2), attention
)"},
    {"Constant", R"(class Constant(nn.Module):
    """A weight that a map is combined with."""

    def __init__(self, *shape):
        super().__init__()
        self.value = nn.Parameter(torch.zeros(*shape))
)"},
    {"crop", R"(def crop(skip, up):
    """The middle of `skip`, as large as `up`."""
    top, left = (skip.shape[2] - up.shape[2]) // 2, (skip.shape[3] - up.shape[3]) // 2
    return skip[:, :, top:top + up.shape[2], left:left + up.shape[3]]
)"},
    {"surround", R"(def surround(up, skip):
    """`up` with zeros around it, as large as `skip`."""
    high, wide = skip.shape[2] - up.shape[2], skip.shape[3] - up.shape[3]
    return F.pad(up, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
)"},
    {"take", R"(def take(x, axis, start, end, step):
    """x[start:end:step] along an axis, steps below 0 too."""
    places = list(range(x.shape[axis]))[start:end:step]
    return x.index_select(axis, torch.tensor(places, device=x.device))
)"},
    {"resize", R"(def resize(x, mode, place, nearest, scales, sizes=None, stretch=True):
    """ONNX's Resize of (n, c, h, w); `sizes` go before `scales`. The edge is repeated."""
    for axis in (2, 3):
        size, scale = x.shape[axis], scales[axis - 2]
        count = sizes[axis - 2] if sizes else int(math.floor(size * scale))
        if sizes and stretch:
            scale = count / size
        i = torch.arange(count, dtype=torch.float64)
        if place == "align_corners":
            at = i * (size - 1) / max(count - 1, 1)
        elif place == "asymmetric":
            at = i / scale
        else:
            at = (i + 0.5) / scale - 0.5
            if place == "pytorch_half_pixel" and count == 1:
                at = i * 0
        floor = at.floor()
        part = at - floor
        if mode == "nearest":
            rounded = {"floor": floor, "ceil": at.ceil(), "round_prefer_floor": (at - 0.5).ceil(),
                       "round_prefer_ceil": (at + 0.5).floor()}[nearest]
            taps = [(rounded, torch.ones_like(at))]
        elif mode == "linear":
            taps = [(floor, 1 - part), (floor + 1, part)]
        else:
            def cubic(d, a=-0.75):
                d = d.abs()
                near = ((a + 2) * d - (a + 3)) * d * d + 1
                return torch.where(d <= 1, near, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a)
            taps = [(floor + k, cubic(part - k)) for k in (-1, 0, 1, 2)]
        shape = [-1, 1] if axis == 2 else [-1]
        x = sum(x.index_select(axis, index.clamp(0, size - 1).long().to(x.device))
                * weight.to(x).reshape(shape) for index, weight in taps)
    return x
)"}};

}  // namespace tessera
