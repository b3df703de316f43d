// Calls the gateway with the SDKs of npm and writes what they make of its refusals,
// one JSON object a line. Arguments: folder of the packages, base URL, a token that may
// use llama3 alone.
import {createRequire} from 'node:module'
import {pathToFileURL} from 'node:url'

const [, , folder, base, token] = process.argv
const require = createRequire(folder + '/node_modules/x.js')
const load = async name => await import(pathToFileURL(require.resolve(name)).href)
const tell = async (name, call) => {
  let told = {name}
  try { await call(); told.ok = true } catch (e) {
    told = {name, error: e.constructor.name, status: e.status ?? e.status_code, type: e.type ?? '', code: e.code ?? '', message: e.message}
  }
  console.log(JSON.stringify(told))
}

const {default: OpenAI} = await load('openai')
const {default: Anthropic} = await load('@anthropic-ai/sdk')
const {Ollama} = await load('ollama')
const openai = key => new OpenAI({baseURL: base + '/v1', apiKey: key, maxRetries: 0})
const messages = [{role: 'user', content: 'hi'}]

await tell('npm openai, allowed', () => openai(token).chat.completions.create({model: 'llama3', messages}))
await tell('npm openai, denied', () => openai(token).chat.completions.create({model: 'mistral', messages}))
await tell('npm openai, denied stream', () => openai(token).chat.completions.create({model: 'mistral', messages, stream: true}))
await tell('npm openai, no token of ours', () => openai('sk-nonsense').chat.completions.create({model: 'llama3', messages}))
const anthropic = key => new Anthropic({baseURL: base, authToken: key, apiKey: null, maxRetries: 0})
await tell('npm anthropic, denied', () => anthropic(token).messages.create({model: 'mistral', max_tokens: 1, messages}))
await tell('npm anthropic, no token of ours', () => anthropic('nonsense').messages.create({model: 'llama3', max_tokens: 1, messages}))
const ollama = new Ollama({host: base, headers: {Authorization: 'Bearer ' + token}})
await tell('npm ollama, denied', () => ollama.chat({model: 'mistral', messages}))
