# Completion of `tessera` for bash, from the program's own --help, so that it never lags behind.
# Installed as /usr/share/bash-completion/completions/tessera.bash; or: source tools/packaging/tessera.bash

# Prints the verbs of `tessera WORD...`, or with a first argument of -- its options.
_tessera_help() {
  local kind=$1; shift
  "$@" --help 2>/dev/null | if [ "$kind" = -- ]; then
    sed -nE 's/^  (-[[:alnum:]],)?(--[[:alnum:]-]+).*/\2/p'
  else
    sed -nE '/^(Verbs|Subcommands):/,/^$/s/^  ([a-z]+) .*/\1/p'
  fi
}

_tessera() {
  local cur prev words cword
  _init_completion -n = || return
  local command=("${words[0]}") word verbs
  for word in "${words[@]:1:cword-1}"; do  # the verb, and of train what is trained
    verbs=" $(_tessera_help verbs "${command[@]}" | tr '\n' ' ')"
    [[ $verbs == *" $word "* ]] || break
    command+=("$word")
  done

  case $prev in
    --device) mapfile -t COMPREPLY < <(compgen -W "auto cpu cuda" -- "$cur"); return ;;
    --precision) mapfile -t COMPREPLY < <(compgen -W "auto fp32 bf16 tf32 fp16" -- "$cur"); return ;;
    --connectivity) mapfile -t COMPREPLY < <(compgen -W "4 8" -- "$cur"); return ;;
    -m | --model) _filedir '@(safetensors|pth|pt|ckpt|onnx|keras|h5|hdf5)'; return ;;
  esac
  if [[ $cur == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$(_tessera_help -- "${command[@]}")" -- "$cur")
    return
  fi
  verbs=$(_tessera_help verbs "${command[@]}")
  if [ -n "$verbs" ]; then
    mapfile -t COMPREPLY < <(compgen -W "$verbs" -- "$cur")
  else
    _filedir
  fi
} && complete -F _tessera tessera
