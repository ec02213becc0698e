"""What tools/bench/predict.py reads of a listing, what it holds against what was recorded, and what the choice of tiles
is predicted to reach; needs no compiler."""
import copy
import json
import pathlib
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools" / "bench"))
import predict  # noqa: E402

# A loop over tiles around the hot loop, which copies weights in each round and, now and then, pixels in a loop of their
# own; a way around the products; an epilogue with a way that stores nothing, which is shorter.
LISTING = """
.L_x_9:
 /*0010*/ MOV R1, R2 ;
.L_x_1:
 /*0020*/ @P0 BRA `(.L_x_2) ;
 /*0030*/ LDGSTS.E [R1], [R2] ;
.L_x_2:
 /*0040*/ @P1 BRA `(.L_x_4) ;
.L_x_3:
 /*0050*/ LDGSTS.E [R1], [R2] ;
 /*0060*/ @P2 BRA `(.L_x_3) ;
.L_x_4:
 /*0070*/ @P3 BRA `(.L_x_5) ;
 /*0080*/ HGMMA.64x256x16.F32.BF16 R24, gdesc[UR20], R24 ;
 /*0090*/ HGMMA.64x256x16.F32.BF16 R24, gdesc[UR20], R24 ;
.L_x_5:
 /*00a0*/ @P4 BRA `(.L_x_1) ;
 /*00b0*/ @P5 BRA `(.L_x_6) ;
 /*00c0*/ FADD R1, R2, R3 ;
 /*00d0*/ STSM.16.MT88.4 [R1], R4 ;
.L_x_6:
 /*00e0*/ @P6 BRA `(.L_x_9) ;
 /*00f0*/ EXIT ;
"""


class Predict(unittest.TestCase):
    facts = json.loads(predict.FACTS.read_text())

    def test_slots(self):
        # branch, copy, branch, (no pixels), branch, two products, branch back; then branch, add, store, branch back.
        self.assertEqual(predict.slots_of(LISTING), (7, 2, 4))

    def test_choice_is_read_whole(self):
        tiles = predict.read_choice()
        for name, tile in tiles.items():
            self.assertIn("full", tile, name)
            self.assertGreater(tile["rows"] * tile["columns"], 0)
            if tile["kind"] != "fma":
                self.assertGreater(predict.fact_of(self.facts, name)["slots"], 0)
        self.assertEqual({tile["kind"] for tile in tiles.values()}, {"fma", "mma", "wgmma"})

    def test_choice_knows_how_many_blocks_registers_allow(self):
        tiles = predict.read_choice()
        for name, tile in tiles.items():
            if tile["kind"] != "fma":
                self.assertLessEqual(tile["resident"], predict.blocks_held(predict.fact_of(self.facts, name)), name)

    def test_what_got_worse(self):
        self.assertEqual(predict.compare(self.facts, self.facts), [])
        for key, value in (("slots", 1000), ("registers", 255), ("stack", 8), ("epilogue", 10000)):
            changed = copy.deepcopy(self.facts)
            changed["wgmma 256x128"][key] = value
            worse = predict.compare(changed, self.facts)
            self.assertEqual(len(worse), 1)
            self.assertIn("wgmma 256x128", worse[0])
        gone = {name: fact for name, fact in self.facts.items() if name != "mma 64x64"}
        self.assertIn("mma 64x64", predict.compare(gone, self.facts)[0])

    def test_prediction(self):
        layers = predict.layers_of_unet(572)
        self.assertEqual(len(layers), 17)
        self.assertEqual(layers[0], ("down0/conv2", 568, 64, 64))
        self.assertEqual(layers[-1], ("up0/conv2", 388, 64, 64))
        for batch, most in ((1, 600e-6), (8, 4.2e-3)):  # of the whole network, as the model has it
            before, after = predict.totals_of(self.facts, batch, 572)
            self.assertLess(after, most)
            self.assertLess(after, before)


if __name__ == "__main__":
    unittest.main()
