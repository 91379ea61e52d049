/* The completion for bash: what stands in the tables, as two case statements, and a function that
 * walks a command line by them. */
#include "client/cli/help.h"
#include "client/cli/words.h"

#include <string.h>

static void print_levels(void) {
    fputs("_kvq_levels=(", stdout);
    for (int level = KVQ_LEVEL_EXACT; level <= KVQ_LEVEL_COARSEST; level++)
        printf("%s%s", level > KVQ_LEVEL_EXACT ? " " : "", level_name(level));
    fputs(")\n\n", stdout);
}

/* The first words of all commands, each once; those of two words stand beside each other. */
static void print_first_words(void) {
    const char *before = "";
    fputs("    '') next='", stdout);
    for (int i = 0; i < command_count; i++) {
        int length = (int)strcspn(commands[i]->name, " ");
        if (strncmp(before, commands[i]->name, (size_t)length) != 0)
            printf("%.*s ", length, commands[i]->name);
        before = commands[i]->name;
    }
    fputs("--help --version' ;;\n", stdout);
}

static void print_second_words(void) {
    for (int i = 0; i < command_count; i++) {
        const char *blank = strchr(commands[i]->name, ' ');
        if (blank)
            printf("    '%.*s') next+=' %s' ;;&\n", (int)(blank - commands[i]->name),
                   commands[i]->name, blank + 1);
    }
}

static void print_command_case(const struct command *command) {
    printf("    '%s')\n        arguments='", command->name);
    for (const char *c = command->arguments; *c; c++)
        if (*c != '[' && *c != ']')
            putchar(*c);
    fputs("'\n        options='", stdout);
    for (int i = 0; i < OPTION_ROWS; i++)
        if (command->options & option_rows[i].flag)
            printf("--%s ", option_rows[i].name);
    fputs("--help'\n        ;;\n", stdout);
}

static void print_commands(void) {
    fputs("# Sets what a command takes, and which words may follow the words of one.\n"
          "_kvq_command() {\n"
          "    arguments='' options='' next=''\n"
          "    case $1 in\n",
          stdout);
    print_first_words();
    print_second_words();
    for (int i = 0; i < command_count; i++)
        print_command_case(commands[i]);
    fputs("    esac\n}\n\n", stdout);
}

static void print_option_values(void) {
    fputs("# Sets what stands after an option: '' if nothing does.\n"
          "_kvq_option_value() {\n"
          "    case $1 in\n",
          stdout);
    for (int i = 0; i < OPTION_ROWS; i++)
        if (option_rows[i].value)
            printf("    --%s) value='%s' ;;\n", option_rows[i].name, option_rows[i].value);
    fputs("    *) value='' ;;\n    esac\n}\n\n", stdout);
}

/* bash splits words at : and =, which stand in names and after options: they are joined again, and
 * of each completion only what follows the last of them is replied. */
static const char walk[] =
    "_kvq_join_words() {\n"
    "    local rest=$COMP_LINE trimmed word i\n"
    "    words=()\n"
    "    for ((i = 0; i <= COMP_CWORD; i++)); do\n"
    "        word=${COMP_WORDS[i]}\n"
    "        trimmed=${rest#\"${rest%%[![:space:]]*}\"}\n"
    "        if ((i > 0)) && [[ $trimmed == \"$rest\" ]]; then\n"
    "            words[${#words[@]} - 1]+=$word\n"
    "        else\n"
    "            words+=(\"$word\")\n"
    "        fi\n"
    "        rest=${trimmed#\"$word\"}\n"
    "    done\n"
    "    typed=${COMP_WORDS[COMP_CWORD]}\n"
    "    [[ $typed == [:=]* ]] && typed=''\n"
    "}\n"
    "\n"
    "# Replies those of the words given that begin as the current one does.\n"
    "_kvq_offer() {\n"
    "    local word quoted kept=${current%\"$typed\"}\n"
    "    for word; do\n"
    "        printf -v quoted %q \"$word\"\n"
    "        if [[ $current == [\\'\\\"]* ]]; then\n"
    "            [[ $word == \"${current:1}\"* ]] && COMPREPLY+=(\"$word\")\n"
    "        elif [[ $quoted == \"$current\"* ]]; then\n"
    "            COMPREPLY+=(\"${quoted#\"$kept\"}\")\n"
    "        elif [[ $word == \"$current\"* ]]; then\n"
    "            COMPREPLY+=(\"${word#\"$kept\"}\")\n"
    "        fi\n"
    "    done\n"
    "}\n"
    "\n"
    "_kvq_offer_sessions() {\n"
    "    local names value daemon=() i\n"
    "    for ((i = 1; i < ${#words[@]} - 1; i++)); do\n"
    "        value=${words[i]#*=}\n"
    "        case ${words[i]} in\n"
    "        --socket=* | --token-file=* | --tls-*=*) ;;\n"
    "        --socket | --token-file | --tls-*) value=${words[i + 1]} ;;\n"
    "        *) continue ;;\n"
    "        esac\n"
    "        daemon+=(\"${words[i]%%=*}\" \"${value/#\\~/$HOME}\")\n"
    "    done\n"
    "    mapfile -t names < <(timeout 2 \"${words[0]/#\\~/$HOME}\" sessions --names \\\n"
    "        \"${daemon[@]}\" 2>/dev/null)\n"
    "    _kvq_offer \"${names[@]}\"\n"
    "}\n"
    "\n"
    "_kvq_offer_files() {\n"
    "    compopt -o filenames 2>/dev/null\n"
    "    local files\n"
    "    mapfile -t files < <(compgen -f -- \"$current\")\n"
    "    COMPREPLY+=(\"${files[@]#\"${current%\"$typed\"}\"}\")\n"
    "}\n"
    "\n"
    "_kvq_offer_values() {\n"
    "    local choices choice\n"
    "    case $1 in\n"
    "    SESSION) _kvq_offer_sessions ;;\n"
    "    FILE | PATH) _kvq_offer_files ;;\n"
    "    LEVEL) _kvq_offer \"${_kvq_levels[@]}\" ;;\n"
    "    *[,=]*) ;;\n"
    "    *'|'*)\n"
    "        IFS='|' read -ra choices <<<\"$1\"\n"
    "        for choice in \"${choices[@]}\"; do\n"
    "            [[ $choice == FILE ]] && _kvq_offer_files || _kvq_offer \"$choice\"\n"
    "        done\n"
    "        ;;\n"
    "    esac\n"
    "}\n"
    "\n"
    "_kvq() {\n"
    "    local words typed current command='' arguments options next value i position=0\n"
    "    COMPREPLY=()\n"
    "    _kvq_join_words\n"
    "    current=${words[${#words[@]} - 1]}\n"
    "    _kvq_command ''\n"
    "    for ((i = 1; i < ${#words[@]} - 1; i++)); do\n"
    "        if [[ ${words[i]} == --*=* ]]; then\n"
    "            :\n"
    "        elif [[ ${words[i]} == -* ]]; then\n"
    "            _kvq_option_value \"${words[i]}\"\n"
    "            if [[ $value ]] && ((i == ${#words[@]} - 2)); then\n"
    "                _kvq_offer_values \"$value\"\n"
    "                return\n"
    "            fi\n"
    "            [[ $value ]] && ((i++))\n"
    "        elif [[ $next ]]; then\n"
    "            command+=${command:+ }${words[i]}\n"
    "            _kvq_command \"$command\"\n"
    "        else\n"
    "            ((position++))\n"
    "        fi\n"
    "    done\n"
    "    if [[ $current == --*=* ]]; then\n"
    "        _kvq_option_value \"${current%%=*}\"\n"
    "        current=${current#*=}\n"
    "        _kvq_offer_values \"$value\"\n"
    "    elif [[ $next ]]; then\n"
    "        _kvq_offer $next\n"
    "    elif [[ $current == -* ]]; then\n"
    "        _kvq_offer $options\n"
    "    else\n"
    "        set -- $arguments\n"
    "        shift \"$position\" && _kvq_offer_values \"$1\"\n"
    "    fi\n"
    "} 2>/dev/null\n"
    "\n"
    "complete -F _kvq kvq\n";

void print_completion(void) {
    fputs("# bash completion for kvq, written by kvq itself.\n\n", stdout);
    print_levels();
    print_commands();
    print_option_values();
    fputs(walk, stdout);
}
