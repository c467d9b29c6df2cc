"""Reads key blocks by the reader of the corpus, which has nothing of the library's: Python and OpenSSL.

    python3 read_key_block.py < '[{"kbpk": hex, "block": text}, ...]'
        ->   '[{"usage", "mode", "exportability", "key"}, ...]', or exit 1
"""
import json
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'corpus'))
from verify import open_key_block  # noqa: E402

print(json.dumps([open_key_block(bytes.fromhex(one['kbpk']), one['block']) for one in json.load(sys.stdin)]))
