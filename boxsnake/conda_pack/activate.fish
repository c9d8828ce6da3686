# Enter the environment that this file lies in: source it, as `. bin/activate.fish`; `deactivate` leaves it.
function deactivate -d 'Leave the environment'
    if set -q CONDA_PREFIX
        for script in $CONDA_PREFIX/etc/conda/deactivate.d/*.fish
            source $script
        end
        set -l found (contains -i -- $CONDA_PREFIX/bin $PATH)
        and set -e PATH[$found]
        set -e CONDA_PREFIX
    end
    functions -e deactivate
end

set -gx CONDA_PREFIX (builtin realpath (dirname (status -f))/..)
set -gx PATH $CONDA_PREFIX/bin $PATH
for script in $CONDA_PREFIX/etc/conda/activate.d/*.fish
    source $script
end
