"""Does with the SDKs of PyPI what client.mjs does with those of npm."""
import json
import sys

import ollama
import openai

base, token = sys.argv[1:]
messages = [{"role": "user", "content": "hi"}]


def tell(name, call):
    try:
        call()
        told = {"name": name, "ok": True}
    except Exception as e:
        told = {
            "name": name, "error": type(e).__name__, "status": getattr(e, "status_code", 0),
            "type": getattr(e, "type", None) or "", "code": getattr(e, "code", None) or "", "message": str(e),
        }
    print(json.dumps(told))


def chat(key, model):
    return openai.OpenAI(base_url=base + "/v1", api_key=key, max_retries=0).chat.completions.create(model=model, messages=messages)


tell("pip openai, denied", lambda: chat(token, "mistral"))
tell("pip openai, no token of ours", lambda: chat("sk-nonsense", "llama3"))
client = ollama.Client(host=base, headers={"Authorization": "Bearer " + token})
tell("pip ollama, denied", lambda: client.chat(model="mistral", messages=messages))
